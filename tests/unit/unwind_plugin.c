/* SPDX-License-Identifier: MIT */
/* What test_unwind.c opens and closes, with frames of different sizes at the same address. */

void plugin_enter(void (*leaf)(void));

__attribute__((noinline)) static int plugin_inner(void (*leaf)(void))
{
    char frame[PLUGIN_FRAME / 2];
    __asm__ volatile("" : : "r"(frame) : "memory");
    leaf();
    __asm__ volatile("" : : "r"(frame) : "memory");
    return 0;
}

void plugin_enter(void (*leaf)(void))
{
    char frame[PLUGIN_FRAME];
    __asm__ volatile("" : : "r"(frame) : "memory");
    for (int i = 0; i < 3; i++)
        plugin_inner(leaf);
    __asm__ volatile("" : : "r"(frame) : "memory");
}
