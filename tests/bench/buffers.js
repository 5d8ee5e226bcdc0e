// SPDX-License-Identifier: MIT
// Buffers, JSON, compression and a worker.  usage: node buffers.js ROUNDS
const zlib = require("zlib");
const { Worker, isMainThread, workerData } = require("worker_threads");

function work(rounds) {
    let sum = 0;
    for (let i = 0; i < rounds; i++) {
        const buffer = Buffer.alloc(20000 + i % 1000);
        sum += JSON.parse(JSON.stringify({ a: [1, 2, i], b: "x".repeat(100) })).a.length;
        sum += zlib.gzipSync(buffer).length;
    }
    return sum;
}

console.log(work(isMainThread ? Number(process.argv[2]) : workerData));
if (isMainThread)
    new Worker(__filename, { workerData: Math.floor(Number(process.argv[2]) / 2) });
