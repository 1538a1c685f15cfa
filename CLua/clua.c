#include "include/clua.h"
