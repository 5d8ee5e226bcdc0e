#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# Totals and the peak equal those of valgrind's DHAT, which counts by other means, on deterministic programs.
#
# How DHAT counts, found by experiment and in its source:
#   - a realloc is a free and a malloc, in blocks and in bytes; so it is here
#   - a block of 0 bytes counts as 1 byte, because its interval tree cannot hold an empty one; the recording's histogram
#     says how many of those there were, and DHAT's bytes must be larger by exactly that number
#   - the peak is the first maximum of live bytes; with blocks of 0 bytes it may be larger by those alive then
#   - valgrind frees libc's own caches at exit; that changes what lives at the end, which is not compared
#   - valgrind adds variables to the environment (GLIBCXX_FORCE_NEW and others) and heapmark another value of
#     LD_PRELOAD, so programs that copy their environment (shells, perl, python) differ by those copies
# SIZE=20 makes the JSON file as large as the acceptance asks for; the default is for every day.
load helper

# dhat_of COMMAND...: `total_bytes total_blocks peak_bytes peak_blocks`
dhat_of() {
    valgrind --tool=dhat --dhat-out-file=/dev/null --log-file="$work/dhat.log" "$@" >dhat.out 2>&1 </dev/null || return 1
    tr -d , <dhat.log | awk '/ Total: / { t = $3 " " $6 } / At t-gmax: / { g = $4 " " $7 } END { print t, g }'
}

equals_dhat() {
    local name=$1 total_bytes total_blocks peak_bytes peak_blocks lines zeros extra
    shift
    need valgrind
    read -r total_bytes total_blocks peak_bytes peak_blocks <<<"$(dhat_of "$@")"
    [[ $peak_blocks ]] || { cat dhat.log >&2; return 1; }
    profiled "$@" >with.out 2>&1 </dev/null || return 1
    diff dhat.out with.out || return 1
    lines=$(facts "$(recording "$name")") || return 1
    zeros=$(value zero_sized <<<"$lines")
    echo "# $name: $total_blocks blocks, $total_bytes bytes, peak $peak_bytes in $peak_blocks; $zeros of 0 bytes" >&3
    equal "total blocks" "$total_blocks" "$(value blocks <<<"$lines")" || return 1
    equal "total bytes" $((total_bytes - zeros)) "$(value bytes <<<"$lines")" || return 1
    extra=$((peak_bytes - $(value peak_bytes <<<"$lines")))
    ((extra >= 0 && extra <= zeros)) || equal "peak bytes" "$peak_bytes" "$(value peak_bytes <<<"$lines")" || return 1
    # With blocks of 0 bytes, the composition may be that of another instant of the same live bytes.
    ((zeros)) || equal "blocks at the peak" "$peak_blocks" "$(value peak_blocks <<<"$lines")"
}

@test "DHAT: C, every allocating function" {
    equals_dhat counts "$programs/counts" 30000
}

@test "DHAT: C++, containers and exceptions" {
    equals_dhat cxx "$programs/cxx" modest
}

@test "DHAT: jq on a JSON file" {
    need jq
    awk -v size="${SIZE:-1}" 'BEGIN {
        printf "["
        for (i = 0; bytes < size * 1000000; i++) {
            row = sprintf("%s{\"id\": %d, \"name\": \"name-%d\", \"tags\": [\"a%d\", \"b%d\"], \"v\": %.2f}", i ? ",\n" : "", i,
                i * 7919 % 10007, i % 13, i % 7, i * 37 % 1000 / 8)
            bytes += length(row)
            printf "%s", row
        }
        print "]"
    }' >numbers.json
    equals_dhat jq jq -c 'group_by(.tags[0]) | map({k: .[0].tags[0], n: length, s: (map(.v) | add)})' numbers.json
}

@test "DHAT: sqlite3 on an in-memory database" {
    need sqlite3
    cat >script.sql <<'END'
create table t(id integer primary key, name text, v real);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 8000)
  insert into t select i, 'name-' || (i * 7919 % 10007), i * 37 % 1000 / 8.0 from n;
create index by_name on t(name);
select count(*), sum(length(g)) from (select name, group_concat(id) g, avg(v) from t group by name);
update t set name = upper(name) || '-x' where id % 3 = 0;
select count(*), max(length(name)) from t a where exists (select 1 from t b where b.name < a.name and b.id = a.id + 1);
END
    equals_dhat sqlite3 sqlite3 :memory: '.read script.sql'
}

# One thread: what libc allocates for another has 16 bytes for each module with thread-local storage, ours too.
@test "DHAT: xz" {
    need xz
    seq 30000 >numbers
    equals_dhat xz xz -k -T1 -c numbers
}

@test "DHAT: sed" {
    need sed
    seq 1500 >numbers
    equals_dhat sed sed -n -E 'H; ${x; s/\n([0-9])/,\1/g; s/(9+)/<\1>/g; p}' numbers
}
