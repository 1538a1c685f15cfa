#pragma once

#include "cnet_netlink.h"
#include "cnet_process.h"
