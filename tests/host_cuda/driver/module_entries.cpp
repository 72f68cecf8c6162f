// Entry points of modules, of libraries (modules that need no context), and of launches.

#include "modules.h"
#include "state.h"

// A library and its kernels are served by a module and its functions.
using CUlibrary = CUmodule;
using CUkernel = CUfunction;

EXPORT CUresult cuModuleLoadData(CUmodule* module, const void* image) {
    return enter("cuModuleLoadData", Needs::context, [&] { load_image(module, image); });
}

EXPORT CUresult cuModuleLoadDataEx(CUmodule* module, const void* image, unsigned count, int* options, void** values) {
    return enter("cuModuleLoadData", Needs::context, [&] {
        // The sizes of the two logs (options 4 and 6) come back as what was written into them: nothing.
        for (unsigned index = 0; index < count; ++index) {
            if (options[index] == 4 || options[index] == 6) values[index] = nullptr;
        }
        load_image(module, image);
    });
}

EXPORT CUresult cuModuleUnload(CUmodule module) {
    return enter("cuModuleUnload", Needs::context, [&] { unload(module); });
}

EXPORT CUresult cuModuleGetFunction(CUfunction* function, CUmodule module, const char* name) {
    return enter("cuModuleGetFunction", Needs::context, [&] { *function = find_function(module, name); });
}

EXPORT CUresult cuLibraryLoadData(CUlibrary* library, const void* image, int*, void**, unsigned, int*, void**, unsigned) {
    return enter("cuLibraryLoadData", Needs::driver, [&] { load_image(library, image); });
}

EXPORT CUresult cuLibraryUnload(CUlibrary library) {
    return enter("cuLibraryUnload", Needs::driver, [&] { unload(library); });
}

EXPORT CUresult cuLibraryGetKernel(CUkernel* kernel, CUlibrary library, const char* name) {
    return enter("cuLibraryGetKernel", Needs::driver, [&] { *kernel = find_function(library, name); });
}

EXPORT CUresult cuKernelGetFunction(CUfunction* function, CUkernel kernel) {
    return enter("cuKernelGetFunction", Needs::context, [&] { *function = kernel; });
}

// Long superseded; pycuda calls it before every launch, which gives the shape once more.
EXPORT CUresult cuFuncSetBlockShape(CUfunction function, int x, int y, int z) {
    return enter("cuFuncSetBlockShape", Needs::context, [&] {
        require(function != nullptr, kInvalidHandle);
        require(x > 0 && y > 0 && z > 0);
    });
}

EXPORT CUresult cuLaunchKernel(CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                               unsigned block_y, unsigned block_z, unsigned shared_bytes, CUstream stream,
                               void** parameters, void** extra) {
    return enter("cuLaunchKernel", Needs::context, [&] {
        const LaunchConfig config = {
            {grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, shared_bytes, stream, nullptr, 0};
        launch(function, config, parameters, extra);
    });
}

EXPORT CUresult cuLaunchKernelEx(const LaunchConfig* config, CUfunction function, void** parameters, void** extra) {
    return enter("cuLaunchKernel", Needs::context, [&] { launch(function, *config, parameters, extra); });
}
