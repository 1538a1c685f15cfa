#pragma once

#include "cnet_netlink.h"
