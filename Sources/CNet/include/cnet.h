#pragma once

#include "cnet_files.h"
#include "cnet_netlink.h"
#include "cnet_poller.h"
#include "cnet_process.h"
#include "cnet_streams.h"
#include "cnet_unix.h"
