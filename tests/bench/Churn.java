// SPDX-License-Identifier: MIT
// Native memory made and given up by a JVM: deflaters, direct buffers, threads, compiled methods.  usage: java Churn.java ROUNDS
import java.nio.ByteBuffer;
import java.util.zip.Deflater;

class Churn {
    static int work(int rounds) {
        byte[] in = new byte[64], out = new byte[200];
        int sum = 0;
        for (int i = 0; i < rounds; i++) {
            Deflater deflater = new Deflater(1 + i % 9);
            deflater.setInput(in);
            deflater.finish();
            sum += deflater.deflate(out);
            deflater.end();
            sum += ByteBuffer.allocateDirect(64 + i % 100).capacity();
        }
        return sum;
    }

    public static void main(String[] arguments) throws InterruptedException {
        int rounds = Integer.parseInt(arguments[0]);
        Thread[] threads = new Thread[2];
        for (int k = 0; k < threads.length; k++) {
            threads[k] = new Thread(() -> System.out.println(work(rounds)));
            threads[k].start();
        }
        for (Thread thread : threads)
            thread.join();
    }
}
