// The half of the harness that answers scripts.
#pragma once
#include "harness.h"

clua_host host_of(harness *h);  // what the VM calls
int32_t host_define(harness *h);  // the class "test.thing" and the module "host"; CLUA_OK or why not
clua_value host_string(const char *s);
