#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# `heapmark run` and `heapmark env`: the program runs as without it, and what cannot be recorded is refused in words.

setup() {
    heapmark=${HEAPMARK_BUILD:?}/heapmark
    library=$HEAPMARK_BUILD/.libs/libheapmark.so
    work=$(mktemp -d "${TMPDIR:-/tmp}/heapmark-e2e.XXXXXX")
    cd "$work" || exit 1
    unset HEAPMARK_OUT HEAPMARK_OPTIONS HEAPMARK_LIB LD_PRELOAD
}

teardown() {
    cd / && rm -rf "$work"
}

need() {
    local tool
    for tool; do
        command -v "$tool" >/dev/null || skip "no $tool"
    done
}

# status N COMMAND...: the command's exit status is N.
status() {
    local wanted=$1 got=0
    shift
    "$@" || got=$?
    [[ $got -eq $wanted ]] || { echo "exit status $got, wanted $wanted: $*"; return 1; }
}

# says PATTERN: the file `err` has a line that matches.
says() {
    grep -Eq -- "$1" err || { echo "not said: $1"; cat err; return 1; }
}

c_program() {
    local name=$1
    shift
    printf '%s\n' '#include <stdlib.h>' 'int main(void) { free(malloc(100)); return 3; }' >"$name.c"
    cc "$name.c" -o "$name" "$@"
}

# ---- the program's own life

@test "exit statuses are passed on" {
    local n
    for n in 0 1 2 77 125 255; do
        status $n "$heapmark" run -q -- sh -c "exit $n"
    done
}

@test "death by a signal is 128 + signal" {
    local n
    for n in TERM KILL SEGV INT HUP USR1; do
        status $((128 + $(kill -l $n))) env --default-signal "$heapmark" run -q -- bash -c "ulimit -c 0; kill -$n \$\$; sleep 5"
    done
}

@test "arguments are passed untouched" {
    "$heapmark" run -q -- printf '[%s]\n' 'a b' '' '--help' '-q' '*' $'two\nlines' "it's" >got
    printf '[%s]\n' 'a b' '' '--help' '-q' '*' $'two\nlines' "it's" >wanted
    cmp got wanted
}

@test "options behind the command are the command's, without -- too" {
    [[ $("$heapmark" run -q echo -o x --report) == '-o x --report' ]]
}

@test "standard input and output are the program's" {
    seq 1 20000 | "$heapmark" run -q -- sort -rn | head -n 1 >got
    [[ $(cat got) == 20000 ]]
    seq 1 5 | "$heapmark" run -- cat >got 2>err
    [[ $(wc -l <got) -eq 5 ]]
}

@test "the working directory, the umask and open files are the program's" {
    mkdir elsewhere
    (cd elsewhere && "$heapmark" run -q -- pwd) | grep -q 'elsewhere$'
    (umask 027 && "$heapmark" run -q -- sh -c umask) | grep -q 0027
    # What `ls` shows of its own descriptors, it shows without heapmark.
    ls /proc/self/fd >wanted
    "$heapmark" run -q -o "$PWD/" -- ls /proc/self/fd >got
    [[ $(head -n 3 got) == "$(head -n 3 wanted)" ]]
}

@test "the environment gains nothing but what is needed" {
    env -i PATH="$PATH" A='b c' "$heapmark" run -q -- env | sort >got
    grep -qx 'A=b c' got
    grep -qx "LD_PRELOAD=$library" got
    grep -qx "HEAPMARK_OUT=$PWD/heapmark.%e.%p.hmk" got
    [[ $(grep -Evc '^(A|PATH|PWD|SHLVL|_|LD_PRELOAD|HEAPMARK_OUT)=' got) -eq 0 ]]
}

@test "an ignored SIGCHLD and an ignored SIGINT are inherited, and the status still arrives" {
    need python3
    cat >ignore.py <<'PY'
import os, signal, subprocess, sys
def ignore():
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
show = "grep SigIgn /proc/self/status; exit 9"
run = subprocess.run([sys.argv[1], "run", "-q", "--", "sh", "-c", show], preexec_fn=ignore, restore_signals=False,
                     stdout=subprocess.PIPE, text=True)
ignored = int(run.stdout.split()[1], 16)
print(run.returncode, bool(ignored & 1 << signal.SIGINT - 1))
PY
    [[ $(python3 ignore.py "$heapmark") == '9 True' ]]
}

@test "signals sent to the launcher reach the program" {
    cat >wait.sh <<'SH'
trap 'echo got >caught; exit 42' "$1"
echo ready >ready
while :; do sleep 0.05; done
SH
    local name got
    for name in TERM HUP USR1 USR2 INT; do
        rm -f ready caught
        # What is ignored cannot be trapped: SIGINT in the background of a script, SIGHUP under nohup.
        env --default-signal "$heapmark" run -q -- bash wait.sh $name &
        until [[ -s ready ]]; do sleep 0.05; done
        kill -$name $!
        got=0
        wait $! || got=$?
        [[ $got -eq 42 && -s caught ]] || { echo "$name: $got"; return 1; }
    done
}

@test "job control: Ctrl-C, Ctrl-Z and fg at a terminal" {
    need python3
    cat >terminal.py <<'PY'
import os, pty, re, select, signal, sys, time
pid, terminal = pty.fork()
if pid == 0:
    os.environ["PS1"] = "prompt$ "
    os.execvp("bash", ["bash", "--norc", "-i"])
seen = b""
def until(pattern):
    global seen
    end = time.monotonic() + 30
    while not re.search(pattern, seen):
        if time.monotonic() > end:
            sys.exit("no %r in %r" % (pattern, seen))
        if select.select([terminal], [], [], 0.2)[0]:
            seen += os.read(terminal, 4096)
    seen = seen[re.search(pattern, seen).end():]
def send(text):
    os.write(terminal, text)
until(rb"prompt\$ ")
# No forks in it: a child that is stopped before its exec would hold a parent in vfork.
send(b"%s run -q -- bash -c 'echo rea\"\"dy; while read x; do echo got $x; done'\n" % sys.argv[1].encode())
until(rb"ready\r\n")
send(b"\x1a")
until(rb"Stopped")
until(rb"prompt\$ ")
send(b"fg\n")
until(rb"done'\r\n")
send(b"more\n")
until(rb"got more\r\n")
send(b"\x03")
until(rb"prompt\$ ")
send(b"echo status $?\n")
until(rb"status 130\r\n")
send(b"exit\n")
PY
    timeout 60 python3 terminal.py "$heapmark"
}

# ---- the recording

@test "a recording is made, named by the pattern, and said" {
    "$heapmark" run -- true 2>err
    set -- heapmark.true.*.hmk
    [[ $# -eq 1 && -s $1 ]]
    says "recording: $1 "
    mkdir -p 'out dir'
    "$heapmark" run -o 'out dir/100%%.%e.hmk' -- true 2>err
    [[ -s 'out dir/100%.true.hmk' ]]
    says 'recording: out dir/100%.true.hmk'
    "$heapmark" run -o 'out dir/' -- true 2>err
    set -- 'out dir'/heapmark.true.*.hmk
    [[ -s $1 ]]
}

@test "nothing is overwritten: a second run has another file, and says which" {
    "$heapmark" run -o same.hmk -- true 2>err
    says 'recording: same.hmk '
    cp same.hmk first
    "$heapmark" run -o same.hmk -- true 2>err
    cmp same.hmk first
    says 'recording: same.1.hmk '
    "$heapmark" run -o plain -- true 2>err
    "$heapmark" run -o plain -- true 2>err
    says 'recording: plain.1 '
}

@test "a program that changes its directory records where it was started" {
    "$heapmark" run -- sh -c 'cd / && exec true' 2>err
    set -- heapmark.true.*.hmk
    [[ -s $1 ]]
}

@test "children are recorded, and --children no leaves them alone" {
    "$heapmark" run -- bash -c 'ls >ignored; true' 2>err
    says 'processes were recorded; the largest was'
    set -- heapmark.ls.*.hmk
    [[ -s $1 ]]
    rm -f ./*.hmk
    "$heapmark" run --children no -- bash -c 'ls >ignored; true'
    set -- *.hmk
    [[ $# -eq 1 && $1 == heapmark.bash.* ]]
}

# A launcher as of pyenv: a shell script that asks others what to start, then becomes it.
@test "recordings of a launcher's small processes go into a folder, unless it was said where they go" {
    c_program small
    large='char *block = malloc(40 << 20); memset(block, 1, 40 << 20);'
    printf '#include <stdlib.h>\n#include <string.h>\nint main(void) { %s return block[0] - 1; }\n' "$large" >large.c
    cc -O0 -o large large.c
    printf '#!/bin/bash\nfor i in 1 2 3; do x=$(expr $i + 1); ls >/dev/null; done\nexec "%s/large"\n' "$PWD" >launcher
    chmod +x launcher
    "$heapmark" run -- ./launcher 2>err
    set -- *.hmk
    [[ $# -eq 1 && $1 == heapmark.large.* ]]
    folder=${1%.hmk}.small
    set -- "$folder"/*.hmk
    (($# >= 7))
    says "^heapmark: $# recordings of small processes were moved into $folder/$"
    "$heapmark" report "$folder"/heapmark.expr.* >/dev/null
    says '^recording: heapmark.large'
    rm -rf -- *.hmk "$folder"
    "$heapmark" run --no-gather -- ./launcher 2>err
    set -- *.hmk
    (($# >= 8))
    [[ $(grep -c moved err) == 0 ]]
    rm -f -- *.hmk
    "$heapmark" run -o out.%e.%p.hmk -- ./launcher 2>err
    set -- out.*.hmk
    (($# >= 8))
    rm -f -- *.hmk
    "$heapmark" run --gather -q -o out.%e.%p.hmk -- ./launcher 2>err
    set -- out.*.hmk
    [[ $# -eq 1 && ! -s err ]]
    rm -rf -- *.hmk *.small
    "$heapmark" run -- bash -c 'ls >ignored; true' 2>err     # all are small
    set -- *.hmk
    [[ $# -eq 3 ]]
}

@test "quiet is quiet" {
    "$heapmark" run -q -- true 2>err
    [[ ! -s err ]]
}

@test "the summary: RSS, what it is made of, why" {
    c_program small
    status 3 "$heapmark" run ./small 2>err
    says '^heapmark: RSS .* at the peak'
    says '^ +live blocks '
    says '^ +heapmark itself '
    says '^ +why '
    says '^recording: heapmark.small.[0-9]+.hmk     heapmark report heapmark.small.[0-9]+.hmk$'
}

@test "--report prints the report on stderr, and the status is the program's" {
    c_program small
    status 3 "$heapmark" run --report ./small >out 2>err
    [[ ! -s out ]]
    says '^pid [0-9]+, exited with status 3'
    says '^RSS '
    says 'WHERE'
}

@test "settings reach the program; HEAPMARK_OPTIONS comes first" {
    HEAPMARK_OPTIONS=depth=9 "$heapmark" run -q --depth 40 --sample 512K --children fork --option census=0 -- \
        sh -c 'echo $HEAPMARK_OPTIONS' >got
    [[ $(cat got) == depth=9:depth=40:sample=512K:children=fork:census=0 ]]
}

@test "a library that was preloaded before stays, behind ours" {
    echo 'int heapmark_test_mark = 1;' >other.c
    cc -shared -fPIC other.c -o libother.so
    local before got
    for before in "$PWD/libother.so" "$PWD/libother.so:$library" "$library $PWD/libother.so"; do
        got=$(LD_PRELOAD=$before "$heapmark" run -q -- sh -c 'echo $LD_PRELOAD; grep -c libother /proc/$$/maps >&2' 2>maps)
        [[ $got == "$library:$PWD/libother.so" ]]
        [[ $(cat maps) -gt 0 ]]
    done
}

@test "HEAPMARK_LIB names another library; a bad one is refused" {
    cp "$library" "$HEAPMARK_BUILD/.libs/libheapmark-unwind.so" .
    [[ $(HEAPMARK_LIB=libheapmark.so "$heapmark" run -q -- sh -c 'echo $LD_PRELOAD') == "$PWD/libheapmark.so" ]]
    HEAPMARK_LIB=/nowhere.so status 125 "$heapmark" run -- true 2>err
    says 'HEAPMARK_LIB: cannot find /nowhere.so'
    mkdir 'a b'
    cp "$library" 'a b'
    HEAPMARK_LIB='a b/libheapmark.so' status 125 "$heapmark" run -- true 2>err
    says 'has a blank'
}

# ---- what cannot be run or recorded

@test "127 when it is not there, 126 when it cannot be run" {
    status 127 "$heapmark" run -- no-such-command 2>err
    says 'no-such-command: command not found'
    status 127 "$heapmark" run -- ./no-such-file 2>err
    says 'cannot run ./no-such-file: No such file or directory'
    status 127 "$heapmark" run -- '' 2>err
    echo text >plain
    status 126 "$heapmark" run -- ./plain 2>err
    says 'Permission denied'
    status 126 "$heapmark" run -- / 2>err
    says '/ is a directory'
    chmod +x plain
    head -c 100 "$library" >cut
    chmod +x cut
    status 126 "$heapmark" run -- ./cut 2>err
    says 'ELF header is damaged|not a program'
    printf '#!/no/such/interpreter\n' >script
    chmod +x script
    status 127 "$heapmark" run -- ./script 2>err
    says 'interpreter /no/such/interpreter is not there'
}

@test "125 for wrong usage" {
    status 125 "$heapmark" run 2>err
    status 125 "$heapmark" run --nonsense true 2>err
    status 125 "$heapmark" run --depth deep true 2>err
    says "depth is a number"
    status 125 "$heapmark" run --children some true 2>err
    says 'one of no\|fork\|all'
    status 125 "$heapmark" run --option nonsense=1 true 2>err
    says "there is no setting 'nonsense'"
    status 125 "$heapmark" run --option depth true 2>err
    says 'KEY=VALUE'
}

@test "scripts: the interpreter counts, through env too" {
    printf '#!/bin/sh\nexit 5\n' >direct
    printf '#!/usr/bin/env -S bash -e\nexit 6\n' >by_env
    printf 'exit 7\n' >bare
    c_program static -static
    printf '#!%s\n' "$PWD/static" >by_static
    printf '#!/usr/bin/env X=1 static\n' >by_env_static
    chmod +x direct by_env bare by_static by_env_static
    status 5 "$heapmark" run -q ./direct
    status 6 "$heapmark" run -q ./by_env
    status 7 "$heapmark" run -q ./bare
    status 125 "$heapmark" run ./by_static 2>err
    says 'static is statically linked'
    PATH=$PWD:$PATH status 125 "$heapmark" run ./by_env_static 2>err
    says 'static is statically linked'
}

@test "a static program is refused; --force runs it" {
    c_program static -static
    c_program static_pie -static-pie
    local name
    for name in static static_pie; do
        status 125 "$heapmark" run ./$name 2>err
        says "$name is statically linked, so nothing can be preloaded into it"
        status 3 "$heapmark" run --force ./$name 2>err
    done
}

@test "a Go program is refused by name" {
    need go
    mkdir -p go
    printf 'package main\n\nfunc main() {}\n' >go/main.go
    (cd go && GOCACHE=$PWD/cache GOFLAGS=-mod=mod CGO_ENABLED=0 GO111MODULE=off go build -o ../gopher main.go)
    status 125 "$heapmark" run ./gopher 2>err
    says 'statically linked \(Go\)'
}

@test "a program of musl's loader is refused, and --force starts it without the library" {
    c_program musl
    cp musl glibc
    # Only the loader's name matters to the check; for --force it must be there.
    need patchelf
    patchelf --set-interpreter "$PWD/ld-musl-x86_64.so.1" musl
    ln -s "$(patchelf --print-interpreter glibc)" ld-musl-x86_64.so.1
    status 125 "$heapmark" run ./musl 2>err
    says 'program of musl libc'
    status 3 "$heapmark" run --force ./musl
    [[ -z $(ls heapmark.*.hmk 2>/dev/null) ]]
}

@test "a missing loader is said" {
    need patchelf
    c_program lost
    patchelf --set-interpreter /nowhere/ld.so lost
    status 127 "$heapmark" run ./lost 2>err
    says 'needs the loader /nowhere/ld.so, which is not there'
}

@test "a setuid program of another user is refused" {
    [[ $(id -u) -eq 0 ]] || skip "not root"
    c_program owned
    chown 65534:65534 owned
    chmod 4755 owned
    ! findmnt -no OPTIONS --target . | grep -q nosuid || skip "mounted nosuid"
    status 125 "$heapmark" run ./owned 2>err
    says 'owned is setuid, so the loader ignores preloaded libraries'
    chmod 2755 owned
    status 125 "$heapmark" run ./owned 2>err
    says 'owned is setgid'
    chmod 755 owned
    status 3 "$heapmark" run -q ./owned
}

@test "a program with file capabilities is refused to others than root" {
    [[ $(id -u) -eq 0 ]] || skip "not root"
    need setcap setpriv
    # The test's own directory is closed to others.
    local open got=0
    open=$(mktemp -d)
    c_program capable
    mv capable "$open"
    chmod 755 "$open"
    nobody() { setpriv --reuid 65534 --regid 65534 --clear-groups "$@"; }
    if ! setcap cap_net_raw+ep "$open/capable" 2>/dev/null || ! nobody "$heapmark" --version >/dev/null 2>&1; then
        rm -r "$open"
        skip "no file capabilities, or nobody cannot run heapmark here"
    fi
    status 3 "$heapmark" run -q "$open/capable" || got=1
    status 125 nobody "$heapmark" run "$open/capable" 2>err || got=1
    rm -r "$open"
    says 'capable has file capabilities'
    [[ $got -eq 0 ]]
}

@test "sanitized programs are refused, shared and static runtime" {
    c_program asan -fsanitize=address
    status 125 "$heapmark" run ./asan 2>err
    says 'asan was built with AddressSanitizer'
    ASAN_OPTIONS=detect_leaks=0 status 3 "$heapmark" run --force ./asan
    c_program tsan -fsanitize=thread
    status 125 "$heapmark" run ./tsan 2>err
    says 'tsan was built with ThreadSanitizer'
    c_program asan_static -fsanitize=address -static-libasan
    status 125 "$heapmark" run ./asan_static 2>err
    says 'AddressSanitizer'
    c_program ubsan -fsanitize=undefined
    status 3 "$heapmark" run -q ./ubsan
}

@test "a program for another machine is refused" {
    need aarch64-linux-gnu-gcc
    [[ $(uname -m) == x86_64 ]] || skip "not on x86-64"
    printf 'int main(void) { return 3; }\n' >arm.c
    aarch64-linux-gnu-gcc arm.c -o arm
    status 125 "$heapmark" run ./arm 2>err
    says 'arm is a program for aarch64, and this heapmark records x86-64 programs only'
}

# ---- env

@test "env: the shell's lines work, with odd names" {
    mkdir "it's 100%"
    cd "it's 100%"
    (eval "$("$heapmark" env --depth 30)" && exec true)
    set -- heapmark.true.*.hmk
    [[ -s $1 ]]
    echo 'int heapmark_test_mark = 1;' >other.c
    cc -shared -fPIC other.c -o ../libother.so
    got=$(export LD_PRELOAD=$work/libother.so && eval "$("$heapmark" env)" && echo "$LD_PRELOAD")
    [[ $got == "$library:$work/libother.so" ]]
}

@test "env: Dockerfile, unit and pod lines" {
    "$heapmark" env --docker | grep -qx 'ENV HEAPMARK_OUT="/var/lib/heapmark/%h.%e.%p.hmk"'
    "$heapmark" env --systemd >drop-in
    grep -qx "Environment=\"LD_PRELOAD=$library\"" drop-in
    grep -qx 'Environment="HEAPMARK_OUT=%S/heapmark/%N.%%e.%%p.hmk"' drop-in
    "$heapmark" env --systemd -o '/tmp/a b.%p.hmk' | grep -qx 'Environment="HEAPMARK_OUT=/tmp/a b.%%p.hmk"'
    status 2 "$heapmark" env --nonsense 2>err
    status 2 "$heapmark" env word 2>err
}

@test "env: the pod's lines are YAML" {
    need python3
    python3 -c 'import yaml' 2>/dev/null || skip "no python3-yaml"
    "$heapmark" env --k8s --depth 30 | python3 -c '
import sys, yaml
pod = yaml.safe_load(sys.stdin)["spec"]
env = {e["name"]: e["value"] for e in pod["containers"][0]["env"]}
assert env["LD_PRELOAD"] == "/opt/heapmark/libheapmark.so", env
assert env["HEAPMARK_OUT"].endswith("%h.%e.%p.hmk"), env
assert env["HEAPMARK_OPTIONS"] == "depth=30", env
assert "libheapmark-unwind.so" in pod["initContainers"][0]["command"][2]'
}

@test "every setting is in the manual" {
    local key page=$BATS_TEST_DIRNAME/../../docs/heapmark-run.1
    local -a keys
    mapfile -t keys < <(sed -n 's/^SETTING([a-z_]*, "\([a-z_]*\)".*/\1/p' "$BATS_TEST_DIRNAME/../../src/contract/settings.def")
    ((${#keys[@]} > 8))
    for key in "${keys[@]}"; do
        grep -qx "\.It Cm $key" "$page" || { echo "not in heapmark-run(1): $key"; return 1; }
    done
}
