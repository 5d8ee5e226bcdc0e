/* SPDX-License-Identifier: MIT */
#include "shim/shield.h"

_Thread_local struct shield shield_self;
bool shield_shared;
