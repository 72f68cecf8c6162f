// The library as one unit, which compiles in a third of the time that its files take apart.

#include "copies.cpp"
#include "devices.cpp"
#include "graphs.cpp"
#include "memory.cpp"
#include "module_entries.cpp"
#include "modules.cpp"
#include "state.cpp"
#include "streams.cpp"
#include "unsupported.cpp"
#include "work.cpp"
