/* SPDX-License-Identifier: MIT */
/*
 * Names that code inside the host may not use: they allocate, lock, touch errno, end the process or run our own
 * hooks.  Included last, by every .c of freestanding, census and shim that does not itself replace or look up libc
 * functions.  No include guard: poisoning twice is harmless.
 */

#undef assert
#undef errno

#pragma GCC poison malloc calloc realloc reallocarray posix_memalign aligned_alloc memalign valloc pvalloc
#pragma GCC poison strdup strndup asprintf vasprintf getline getdelim
#pragma GCC poison printf fprintf sprintf snprintf vprintf vfprintf vsprintf vsnprintf dprintf puts putchar perror
#pragma GCC poison fopen fdopen fclose fread fwrite fgets fputs fflush setvbuf
#pragma GCC poison scanf sscanf fscanf strtol strtoul strtoll strtoull strtod atoi atol
#pragma GCC poison strtok strerror strsignal setlocale localtime gmtime strftime qsort bsearch
#pragma GCC poison abort exit _exit _Exit quick_exit atexit assert errno
#pragma GCC poison getenv secure_getenv setenv putenv unsetenv
#pragma GCC poison open openat creat close read pread write pwrite lseek ftruncate fcntl ioctl
#pragma GCC poison mmap munmap mremap madvise mprotect mincore brk sbrk
#pragma GCC poison fstat lstat unlink readlink getcwd opendir readdir posix_fallocate fallocate memfd_create
#pragma GCC poison getpid getppid gettid getuid kill tgkill raise sched_yield usleep sleep nanosleep syscall
#pragma GCC poison clock_gettime gettimeofday time process_vm_readv prctl prlimit getrlimit
#pragma GCC poison pthread_mutex_lock pthread_mutex_unlock pthread_rwlock_rdlock pthread_rwlock_wrlock
#pragma GCC poison pthread_cond_wait pthread_once pthread_getattr_np pthread_key_create pthread_setspecific
#pragma GCC poison backtrace backtrace_symbols system popen fork vfork execve
