#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# Debian's Python with numpy and pandas: what a script keeps is what lives; RSS is what the kernel says.
load helper

# lives PROGRAM N: live bytes and blocks at the end of `python3 -c PROGRAM N`, which leaves by os._exit.
lives() {
    rm -f "$work"/*.hmk
    PYTHONHASHSEED=0 profiled /usr/bin/python3 -c "import sys, os; n = int(sys.argv[1])
$1
os._exit(0)" "$2" || return 1
    facts "$(recording)" >facts.$2
    bytes=$(value live_bytes <facts.$2)
    blocks=$(value live_blocks <facts.$2)
}

@test "numpy: arrays that are kept live, to the byte" {
    python_has numpy
    program='import numpy
kept = [numpy.full(1_000_000, float(i)) for i in range(8)][:n]'
    lives "$program" 3
    first_bytes=$bytes first_blocks=$blocks
    lives "$program" 8
    # Five more arrays; the slice is five pointers longer.
    within "bytes" $((first_bytes + 5 * 8000000)) "$bytes" 4096
    within "blocks" $((first_blocks + 5)) "$blocks" 16
    (($(value peak_bytes <facts.8) >= 64000000))
}

@test "PYTHONMALLOC=malloc: each object is a block of the size that Python says" {
    export PYTHONMALLOC=malloc
    program='kept = [float(i) for i in range(20000)]
del kept[n:]'
    lives "$program" 5000
    first_bytes=$bytes first_blocks=$blocks
    lives "$program" 15000
    # sys.getsizeof(1.0) is 24; the list itself may shrink.
    within "blocks" $((first_blocks + 10000)) "$blocks" 40
    within "bytes" $((first_bytes + 10000 * 24)) "$bytes" $((20000 * 8 + 4096))
}

@test "pandas: read_csv, groupby, del; the same output, RSS as the kernel's" {
    python_has pandas
    /usr/bin/python3 -c 'import random
random.seed(1)
print("name,city,value")
for i in range(60000): print(f"customer-{i},city-{random.randrange(50)},{random.random():.3f}")' >rows.csv
    cat >script.py <<'END'
import pandas
frame = pandas.read_csv("rows.csv")
print(frame.groupby("city")["value"].sum().round(2).to_string())
kept = list(frame["name"][::1000])
del frame
print(len(kept))
with open("status.%s" % ("with" if "LD_PRELOAD" in __import__("os").environ else "bare"), "w") as out:
    out.write(open("/proc/self/status").read())
END
    for allocator in pymalloc malloc; do
        rm -f "$work"/*.hmk
        PYTHONMALLOC=$allocator same_as_bare /usr/bin/python3 script.py
        file=$(recording 'python3*')
        sound "$file"
        "$heapmark" report --json "$file" >report.json
        # VmHWM was read by the script just before its end; the kernel adds its counters up lazily.
        kernel=$(awk '/^VmHWM/ { print $2 * 1024 }' status.with)
        # The report leaves out what a ledger of heapmark's own took for a moment, before the reading or after it.
        read -r least most < <(/usr/bin/python3 -c 'import json
rss = json.load(open("report.json"))["rss"]
print(rss["peak_bytes"], rss["kernel_peak_bytes"])')
        within "peak RSS with $allocator" "$kernel" $((kernel < least ? least : kernel > most ? most : kernel)) $((kernel / 100))
        /usr/bin/python3 -c 'import json, sys
for ledger in json.load(open("report.json"))["ledgers"]:
    if ledger["rss_bytes"] != ledger["sum_bytes"]: sys.exit("a ledger does not sum to VmRSS")'
    done
}
