// SPDX-License-Identifier: MIT
// Generic functions, methods and a closure, in Rust; prints the truth about them, as truth.h says.  The addresses are those of
// the functions' starts plus one, which a symbolizer takes for the end of a call in their first byte; line 0: not checked.

extern "C" {
    static __executable_start: u8;
}

mod shelf {
    pub struct Crate<T> {
        pub value: T,
    }
    impl<T: Copy> Crate<T> {
        #[inline(never)]
        pub fn fill(&mut self, value: T) {
            self.value = value;
        }
    }
    pub trait Pack {
        fn pack(&self) -> usize;
    }
    impl Pack for Crate<u32> {
        #[inline(never)]
        fn pack(&self) -> usize {
            self.value as usize
        }
    }
    #[inline(never)]
    pub fn plain(n: usize) -> usize {
        n + 1
    }
}

use shelf::Pack;

fn truth(address: usize, name: &str) {
    let start = unsafe { &__executable_start as *const u8 as usize };
    println!("{:x}\t{}\t0", address - start + 1, name);
}

fn main() {
    let mut item = shelf::Crate { value: 1u32 };
    item.fill(2);
    let v0 = std::env::args().nth(1).as_deref() == Some("v0");
    truth(shelf::plain as fn(usize) -> usize as usize, "rusty::shelf::plain");
    truth(
        shelf::Crate::<u32>::fill as fn(&mut shelf::Crate<u32>, u32) as usize,
        if v0 { "<rusty::shelf::Crate<u32>>::fill" } else { "rusty::shelf::Crate<T>::fill" },
    );
    truth(
        <shelf::Crate<u32> as Pack>::pack as fn(&shelf::Crate<u32>) -> usize as usize,
        "<rusty::shelf::Crate<u32> as rusty::shelf::Pack>::pack",
    );
    if shelf::plain(item.pack()) != 3 {
        std::process::exit(1);
    }
}
