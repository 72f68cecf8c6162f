// Modules and launches. An image tells the names of its kernels; what runs is their emulation.

#include "modules.h"

#include <dlfcn.h>

#include <cstdint>
#include <cstring>

#include "streams.h"

namespace {

// The fields of a 64-bit ELF file that are read here.
struct ElfHeader {
    unsigned char ident[16];
    uint16_t type, machine;
    uint32_t version;
    uint64_t entry, program_offset, section_offset;
    uint32_t flags;
    uint16_t header_size, program_size, programs, section_size, sections, names;
};
struct ElfSection {
    uint32_t name, type;
    uint64_t flags, address, offset, size;
    uint32_t link, info;
    uint64_t alignment, entry_size;
};
struct ElfSymbol {
    uint32_t name;
    unsigned char info, other;
    uint16_t section;
    uint64_t value, size;
};

constexpr uint16_t kCudaMachine = 190;
constexpr uint32_t kSymbolTable = 2;
constexpr unsigned char kGlobalFunction = 0x12;

int device_architecture() { return state().options.major * 10 + state().options.minor; }

// A cubin runs on its own architecture and on later minor versions of it.
std::set<std::string> cubin_entries(const char* image) {
    const auto* header = reinterpret_cast<const ElfHeader*>(image);
    require(header->machine == kCudaMachine && header->sections > 0, kInvalidImage);
    const unsigned version = header->ident[8] >= 8 ? header->flags >> 8 & 0xff : header->flags & 0xff;
    const int made_for = static_cast<int>(version), device = device_architecture();
    require(made_for / 10 == device / 10 && made_for <= device, kNoBinary);
    const auto* sections = reinterpret_cast<const ElfSection*>(image + header->section_offset);
    std::set<std::string> entries;
    for (unsigned index = 0; index < header->sections; ++index) {
        const ElfSection& table = sections[index];
        if (table.type != kSymbolTable) continue;
        const auto* symbols = reinterpret_cast<const ElfSymbol*>(image + table.offset);
        const char* names = image + sections[table.link].offset;
        for (uint64_t symbol = 0; symbol < table.size / sizeof(ElfSymbol); ++symbol) {
            if (symbols[symbol].info == kGlobalFunction) entries.insert(names + symbols[symbol].name);
        }
    }
    return entries;
}

// The number behind a word, without its point: "9.0" is 90, "sm_89" is 89.
int number_after(const std::string& text, const std::string& word) {
    const size_t start = text.find(word);
    require(start != std::string::npos, kInvalidPtx);
    int number = 0;
    for (size_t index = start + word.size(); index < text.size() && text[index] != '\n'; ++index) {
        if (text[index] >= '0' && text[index] <= '9') number = number * 10 + (text[index] - '0');
    }
    return number;
}

std::set<std::string> ptx_entries(const std::string& text) {
    // Version 9.0 of the language came with CUDA 13.0; before that it was 8.N for CUDA 12.
    require(number_after(text, ".version ") / 10 <= state().options.driver_version / 1000 - 4, kUnsupportedPtx);
    require(number_after(text, ".target sm_") <= device_architecture(), kInvalidPtx);
    std::set<std::string> entries;
    const std::string word = ".entry ";
    for (size_t start = text.find(word); start != std::string::npos; start = text.find(word, start + 1)) {
        const size_t name = start + word.size();
        entries.insert(text.substr(name, text.find_first_of("( \n\t", name) - name));
    }
    return entries;
}

Emulated emulation_of(const std::string& name) {
    const std::string path = state().options.kernels + "/" + name + ".so";
    void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) violation("no emulation of kernel " + name + ": " + dlerror());
    Emulated found;
    found.parameters = *static_cast<const int*>(dlsym(library, "host_kernel_parameters"));
    found.sizes = *static_cast<const unsigned* const*>(dlsym(library, "host_kernel_sizes"));
    found.kinds = *static_cast<const char* const*>(dlsym(library, "host_kernel_kinds"));
    found.launch = reinterpret_cast<decltype(found.launch)>(dlsym(library, "host_kernel_launch"));
    return found;
}

// The arguments' bytes, one after the other as the kernel's parameters lie, and where each begins.
struct Arguments {
    std::string bytes;
    std::vector<size_t> offsets;
};

Arguments laid_out(const Emulated& kernel) {
    Arguments arguments;
    for (int index = 0; index < kernel.parameters; ++index) {
        const size_t size = kernel.sizes[index];
        const size_t offset = (arguments.bytes.size() + size - 1) / size * size;
        arguments.offsets.push_back(offset);
        arguments.bytes.resize(offset + size);
    }
    return arguments;
}

// From an array of pointers, or from one buffer.
Arguments read_arguments(const Function& function, void** parameters, void** extra) {
    const Emulated& kernel = function.emulated;
    Arguments arguments = laid_out(kernel);
    if (parameters != nullptr) {
        for (size_t index = 0; index < arguments.offsets.size(); ++index) {
            std::memcpy(&arguments.bytes[arguments.offsets[index]], parameters[index], kernel.sizes[index]);
        }
        return arguments;
    }
    require(extra != nullptr);
    const void* buffer = nullptr;
    size_t size = 0;
    for (; *extra != kParameterEnd; extra += 2) {
        if (*extra == kParameterBuffer) buffer = extra[1];
        if (*extra == kParameterBufferSize) size = *static_cast<const size_t*>(extra[1]);
    }
    if (buffer == nullptr || size != arguments.bytes.size()) {
        violation("kernel " + function.name + " is given " + std::to_string(size) + " bytes of arguments, expected " +
                  std::to_string(arguments.bytes.size()));
    }
    std::memcpy(arguments.bytes.data(), buffer, size);
    return arguments;
}

// What a kernel may touch: from each address to the end of its memory.
std::vector<Access> accesses_of(const Function& function, const Arguments& arguments, const std::string& what) {
    std::vector<Access> accesses = {{function.module, 0, 1, false}};
    for (size_t index = 0; index < arguments.offsets.size(); ++index) {
        if (function.emulated.kinds[index] == 'v') continue;
        CUdeviceptr address = 0;
        std::memcpy(&address, &arguments.bytes[arguments.offsets[index]], sizeof address);
        const bool writes = function.emulated.kinds[index] == 'w';
        Access access = device_range(address, 1, writes, what + ", argument " + std::to_string(index) + ",");
        access.end = static_cast<const Allocation*>(access.of)->bytes;
        accesses.push_back(access);
    }
    return accesses;
}

Work launching(const Function& function, const unsigned (&grid)[3], const unsigned (&block)[3], Arguments arguments) {
    static unsigned seed = 0;
    const std::string what = "kernel " + function.name;
    Work work{what, accesses_of(function, arguments, what), nullptr};
    work.start = [=, launch = function.emulated.launch] {
        return [=, order = ++seed] {
            std::vector<void*> pointers;
            for (const size_t offset : arguments.offsets) pointers.push_back(const_cast<char*>(&arguments.bytes[offset]));
            launch(grid, block, order, pointers.data());
        };
    };
    return work;
}

}  // namespace

void load_image(CUmodule* made, const void* image) {
    forbidden_in_capture();
    require(image != nullptr);
    const char* bytes = static_cast<const char*>(image);
    const bool elf = std::memcmp(bytes, "\177ELF", 4) == 0;
    require(elf || std::strstr(bytes, ".version ") != nullptr, kInvalidImage);
    const std::set<std::string> entries = elf ? cubin_entries(bytes) : ptx_entries(bytes);
    *made = Handles<Module>::make();
    (*made)->entries = entries;
    (*made)->what = "module " + std::to_string((*made)->number);
}

void unload(CUmodule module) {
    Module& loaded = Handles<Module>::get(module);
    forbidden_in_capture();
    check_unused(loaded, "unloaded");
    loaded.alive = false;
}

CUfunction find_function(CUmodule module, const char* name) {
    Module& loaded = Handles<Module>::get(module);
    require(loaded.entries.count(name) == 1, kNotFound);
    std::unique_ptr<Function>& found = loaded.functions[name];
    if (!found) found = std::make_unique<Function>(Function{name, module, emulation_of(name)});
    return found.get();
}

void launch(CUfunction function, const LaunchConfig& config, void** parameters, void** extra) {
    require(function != nullptr, kInvalidHandle);
    Handles<Module>::get(function->module);
    const auto& [grid, block, shared_bytes, stream, attributes, attribute_count] = config;
    require(grid[0] > 0 && grid[1] > 0 && grid[2] > 0 && grid[1] <= 65535 && grid[2] <= 65535);
    const unsigned long long threads = static_cast<unsigned long long>(block[0]) * block[1] * block[2];
    require(threads > 0 && threads <= 1024 && block[2] <= 64 && shared_bytes <= 48 * 1024);
    require(attributes == nullptr || attribute_count == 0, kNotSupported);
    give(stream_of(stream), launching(*function, grid, block, read_arguments(*function, parameters, extra)));
}
