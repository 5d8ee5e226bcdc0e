/* SPDX-License-Identifier: MIT */
/* In place of src/shim/module.c, which would bring the recording with it: the loader's place is not known. */

#include "shim/module.h"

uint64_t module_loader_start, module_loader_bytes;
