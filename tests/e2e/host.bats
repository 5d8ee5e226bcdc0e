#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# Real programs behave under the preload as without it: the same output, the same errors, the same exit status.
load helper

@test "the corners of glibc's allocator: sizes, zeros, overflows, alignments, errno" {
    same_as_bare "$programs/torture"
    sound "$(recording torture)"
}

@test "C++ exceptions, thread ends, families, failures keep their output" {
    same_as_bare "$programs/cxx"
    same_as_bare "$programs/tsd"
    same_as_bare "$programs/threads" 16 500
    same_as_bare "$programs/mappings"
    same_as_bare /bin/sh -c 'kill -SEGV $$'
    same_as_bare /bin/false
    same_as_bare /bin/ls /nonexistent
}

@test "bash: functions, pipes, subshells, job control, here documents" {
    same_as_bare bash -c '
        f() { local x=$1; echo "${x^^}"; }
        for i in {1..50}; do f "word $i"; done | sort -r | head -n 3
        (exit 3); echo $?
        cat <<< "$(seq 1 500 | while read -r n; do ((s += n)); echo $s; done | tail -n 1)"
        mapfile -t a < <(seq 1 2000); echo ${#a[@]} ${a[-1]}
        sleep 0.01 & wait $!; echo waited $?
        set -o pipefail; true | false | true; echo $?
        trap "echo bye" EXIT; exec 5>&1; echo to-five >&5; exit 17'
}

@test "git: init, commit, log, grep" {
    need git
    export HOME=$work GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_DATE="1700000000 +0000" GIT_COMMITTER_DATE="1700000000 +0000"
    git init -q repository
    cd repository
    git config user.email a@example.org
    git config user.name A
    for i in 1 2 3 4 5; do
        seq "$i" $((i * 100)) >"file$i"
        git add .
        git commit -qm "change $i"
    done
    same_as_bare git log --stat -p
    same_as_bare git grep -n 99 HEAD~1
    same_as_bare git blame file1
    same_as_bare git show nonsense
    profiled git commit -q --allow-empty -m "made under heapmark"
    same_as_bare git log -n 2 --format=%s
    git fsck --strict
}

@test "gcc: a compilation and its errors; the objects are equal" {
    need gcc
    printf '#include <stdio.h>\n#include <stdlib.h>\nint main(void) { puts("built"); return 0; }\n' >a.c
    gcc -g -O2 -c a.c -o bare.o
    profiled gcc -g -O2 -c a.c -o with.o
    cmp bare.o with.o
    profiled gcc a.c -o a.out
    equal "output" built "$(./a.out)"
    echo 'int f(void) { return undeclared; }' >b.c
    same_as_bare gcc -Wall -c b.c
}

@test "python3: a dozen of its own test suites" {
    python_has test.test_json test.test_list
    export PYTHONDONTWRITEBYTECODE=1
    suites="test_list test_dict test_set test_json test_re test_struct test_threading_local test_weakref test_pickle
        test_bisect test_heapq test_itertools test_generators"
    bare=0 with=0
    /usr/bin/python3 -m test $suites >bare.out 2>&1 || bare=$?
    profiled /usr/bin/python3 -m test $suites >with.out 2>&1 || with=$?
    equal "exit status" "$bare" "$with"
    equal "suites that passed" "$(grep -cE '^[0-9:]+ .*\] test_.*$' bare.out)" "$(grep -cE '^[0-9:]+ .*\] test_.*$' with.out)"
    equal "result" "$(grep -E '^Result|tests OK' bare.out)" "$(grep -E '^Result|tests OK' with.out)"
}

@test "python3: subprocess, multiprocessing, threads" {
    python_has multiprocessing
    cat >family.py <<'END'
import multiprocessing, os, subprocess, sys, threading

def work(n):
    return sum(len(str(i)) for i in range(n))

if __name__ == "__main__":
    with multiprocessing.Pool(2) as pool:
        print(pool.map(work, [1000, 2000, 3000]))
    threads = [threading.Thread(target=work, args=(5000,)) for _ in range(8)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    print(subprocess.run(["sh", "-c", "echo child; exit 9"], capture_output=True, close_fds=True))
    print(subprocess.run([sys.executable, "-c", "print('grandchild')"], capture_output=True, text=True).stdout)
    pid = os.fork()
    if pid == 0:
        os._exit(work(10) % 256)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    sys.exit(33)
END
    same_as_bare /usr/bin/python3 family.py
    for file in "$work"/python3*.hmk; do sound "$file"; done
}

@test "redis: a server under its benchmark, then a clean shutdown" {
    need redis-server redis-cli redis-benchmark
    (LD_PRELOAD=$shim exec redis-server --port 0 --unixsocket "$work/socket" --save "" --dir "$work") >log 2>&1 3>&- &
    server=$!
    for _ in $(seq 100); do
        redis-cli -s socket ping >/dev/null 2>&1 && break
        sleep 0.1
    done
    redis-benchmark -s socket -q -n 20000 -P 8 -r 1000 -t set,get,lpush,lpop,sadd,hset >benchmark
    equal "tests" 6 "$(tr '\r' '\n' <benchmark | grep -c 'requests per second')"
    redis-cli -s socket debug reload >/dev/null || true
    equal "answer" bar "$(redis-cli -s socket eval 'redis.call("set", "foo", "bar"); return redis.call("get", "foo")' 0)"
    redis-cli -s socket shutdown nosave || true
    status=0
    wait $server || status=$?
    equal "exit status" 0 "$status"
    for file in "$work"/redis*.hmk; do sound "$file"; done
}

@test "sort -S, xz, tar: threads, large blocks, pipes" {
    need sort tar
    seq 200000 | awk '{ print ($1 * 7919) % 200003, $1 }' >numbers
    same_as_bare sort -S 5M --parallel=2 -n numbers
    same_as_bare sort -S 64K -T "$work" -k2,2nr numbers
    same_as_bare sort -c numbers
    tar -cf bare.tar -C "$work" numbers
    profiled tar -cf with.tar -C "$work" numbers
    cmp bare.tar with.tar
    if command -v xz >/dev/null; then
        xz -T2 -k -c numbers >bare.xz
        profiled xz -T2 -k -c numbers >with.xz
        cmp bare.xz with.xz
        same_as_bare xz -dc bare.xz
    fi
}

@test "node: a script with promises, workers and buffers" {
    need node
    cat >script.js <<'END'
const { Worker, isMainThread, parentPort } = require('worker_threads');
if (isMainThread) {
  const words = new Map();
  for (let i = 0; i < 50000; i++) words.set('key' + i % 1000, (words.get('key' + i % 1000) || 0) + 1);
  console.log(words.size, Buffer.alloc(1 << 20, 'x').toString('base64').length);
  const worker = new Worker(__filename);
  worker.on('message', m => { console.log('worker said', m); });
  worker.on('exit', code => { console.log('worker ended', code); process.exitCode = 12; });
} else {
  parentPort.postMessage(JSON.stringify(Array.from({ length: 100 }, (_, i) => i * i)).length);
}
END
    same_as_bare node script.js
    same_as_bare node -e 'console.log([1,2,3].map(x => x * 2).join()); process.exit(5)'
    same_as_bare node -e 'throw new RangeError("on purpose")'
}

@test "java: -version, and a class that allocates in threads" {
    need java
    same_as_bare java -version
    command -v javac >/dev/null || return 0
    cat >T.java <<'END'
public class T {
    public static void main(String[] a) throws Exception {
        Thread[] t = new Thread[4];
        long[] n = new long[4];
        for (int i = 0; i < 4; i++) { int k = i; t[i] = new Thread(() -> { for (int j = 0; j < 100000; j++) n[k] += ("" + j).length(); }); t[i].start(); }
        for (Thread x : t) x.join();
        System.out.println(n[0] + n[1] + n[2] + n[3]);
        System.exit(7);
    }
}
END
    javac T.java
    same_as_bare java -cp . T
}

@test "a Rust program: ripgrep" {
    need rg
    mkdir tree
    for i in $(seq 200); do seq "$i" $((i + 300)) >"tree/$i"; done
    same_as_bare rg --sort path -c 77 tree
    same_as_bare rg nothing-like-this tree
    same_as_bare rg '(unclosed' tree
}

@test "perl, awk, sed, find: the small tools" {
    need perl awk sed find
    same_as_bare perl -e 'my %h; $h{$_ % 997} .= "x$_" for 1..50000; print length(join ",", map { $h{$_} } sort keys %h), "\n"; exit 6'
    same_as_bare awk 'BEGIN { for (i = 0; i < 50000; i++) a[i % 1000] = a[i % 1000] i; print length(a[5]); exit 4 }'
    same_as_bare find /usr/share/doc/bash /nonexistent -name 'copyright'
    same_as_bare sed -n 'H; ${x; s/\n/,/g; p}' /etc/services
}
