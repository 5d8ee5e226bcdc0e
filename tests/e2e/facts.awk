# SPDX-License-Identifier: MIT
# Adds up the cells of a `heapmark dump`: sums over heap sites of what was allocated, what lives and what lived at the peak, by
# the rules that format.h states.  `heap.KEY` lines are the process's own totals.
function field(name,    at, rest) {
    at = index($0, " " name "=")
    if (!at)
        return 0
    rest = substr($0, at + length(name) + 2)
    sub(/ .*/, "", rest)
    return rest
}
/^heap\./ || /^(state|stop_reason|lost_[a-z]*|unknown_frees|stale_live|exit_status|inherited_[a-z]*|incomplete_stacks|abandoned_events)=/ {
    split($0, pair, "=")
    value[pair[1]] = pair[2]
    print pair[1], pair[2]
}
/^sites [0-9]/ {
    kind[$2 + 0] = field("kind")
}
/^cells [0-9]/ {
    site = field("site")
    if (kind[site] != "heap")
        next
    made = field("allocations")
    bytes = field("allocated_bytes")
    dead = field("frees")
    dead_bytes = field("freed_bytes")
    blocks_total += made
    bytes_total += bytes
    frees_total += dead
    temporary += field("temporary")
    live_blocks += made - dead
    live_bytes += bytes - dead_bytes
    site_live[site] += bytes - dead_bytes
    if (value["heap.rising"] == 0 && field("epoch") == value["heap.epoch"]) {
        peak_bytes += field("peak_bytes")
        peak_blocks += field("peak_blocks")
    } else {
        peak_bytes += bytes - dead_bytes
        peak_blocks += made - dead
    }
}
/^threads [0-9]/ {
    threads++
    pending_bytes += field("pending_bytes")
    pending_blocks += field("pending_blocks")
}
/^histograms [0-9]/ {
    zero_sized += field("class[0]")
}
/^events [0-9]/ {
    events[field("kind")]++
}
END {
    for (site in site_live)
        negative += site_live[site] < 0
    printf "blocks %d\nbytes %d\nfrees %d\nlive_blocks %d\nlive_bytes %d\npeak_bytes %d\npeak_blocks %d\n", blocks_total, bytes_total,
        frees_total, live_blocks, live_bytes, peak_bytes, peak_blocks
    printf "threads %d\npending_bytes %d\npending_blocks %d\n", threads, pending_bytes, pending_blocks
    printf "temporary %d\nzero_sized %d\nnegative_sites %d\n", temporary, zero_sized, negative
    for (kind_of in events)
        printf "event.%s %d\n", kind_of, events[kind_of]
}
