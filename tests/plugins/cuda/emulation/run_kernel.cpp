// One kernel, run on a CPU in three orders of its threads, which must agree bit for bit.
//
// run_kernel GX GY GZ BX BY BZ ARGUMENT...   with ARGUMENT one of in:NAME:FILE, int:VALUE, out:NAME:FILE:BYTES
// Linked with the kernel (entry.cpp), the scheduler and the conversions.

#include "fibers.h"
#include "guard.h"

namespace {

struct Argument {
    std::string kind, name, file;
    size_t bytes = 0;
    int value = 0;
};

std::vector<std::string> split(const std::string& text) {
    std::vector<std::string> parts(1);
    for (const char letter : text) {
        if (letter == ':') parts.emplace_back();
        else parts.back() += letter;
    }
    return parts;
}

[[noreturn]] void give_up(const std::string& why) {
    std::fprintf(stderr, "run_kernel: %s\n", why.c_str());
    std::exit(2);
}

Argument parse(const std::string& text) {
    const std::vector<std::string> parts = split(text);
    Argument argument;
    argument.kind = parts[0];
    if (parts[0] == "int" && parts.size() == 2) {
        argument.value = std::stoi(parts[1]);
    } else if (parts[0] == "in" && parts.size() == 3) {
        argument.name = parts[1];
        argument.file = parts[2];
    } else if (parts[0] == "out" && parts.size() == 4) {
        argument.name = parts[1];
        argument.file = parts[2];
        argument.bytes = std::stoul(parts[3]);
    } else {
        give_up("cannot read argument " + text);
    }
    return argument;
}

std::string read_file(const std::string& path) {
    std::string content;
    FILE* file = std::fopen(path.c_str(), "rb");
    if (file == nullptr) give_up("cannot read " + path);
    char block[65536];
    for (size_t got; (got = std::fread(block, 1, sizeof block, file)) > 0;) content.append(block, got);
    std::fclose(file);
    return content;
}

void write_file(const std::string& path, const std::string& content) {
    FILE* file = std::fopen(path.c_str(), "wb");
    if (file == nullptr || std::fwrite(content.data(), 1, content.size(), file) != content.size()) {
        give_up("cannot write " + path);
    }
    std::fclose(file);
}

// The content of all outputs after one run.
std::vector<std::string> run_once(dim3 grid, dim3 block, const std::vector<Argument>& arguments, emulation::Order order) {
    // Buffers end at a forbidden page in two orders and start after one in the third: both ends are watched.
    const bool at_end = order != emulation::Order::reverse;
    std::vector<emulation::Buffer> buffers;
    std::vector<void*> addresses(arguments.size()), values(arguments.size());
    std::vector<int> integers(arguments.size());
    for (size_t index = 0; index < arguments.size(); ++index) {
        const Argument& argument = arguments[index];
        if (argument.kind == "int") {
            integers[index] = argument.value;
            values[index] = &integers[index];
            continue;
        }
        const std::string content = argument.kind == "in" ? read_file(argument.file) : std::string(argument.bytes, '\xff');
        buffers.emplace_back(argument.name, content.size(), at_end);
        std::memcpy(buffers.back().data, content.data(), content.size());
        if (argument.kind == "in") buffers.back().forbid_writing();
        addresses[index] = buffers.back().data;
        values[index] = &addresses[index];
    }
    emulation::guarded = &buffers;
    emulation::launch(grid, block, order, 20240611, values.data());
    std::vector<std::string> outputs;
    size_t next = 0;
    for (const Argument& argument : arguments) {
        if (argument.kind == "int") continue;
        const emulation::Buffer& buffer = buffers[next++];
        if (!buffer.slack_untouched()) give_up("the kernel wrote beside buffer " + buffer.name);
        if (argument.kind == "out") outputs.emplace_back(buffer.data, buffer.bytes);
    }
    return outputs;
}

}  // namespace

int main(int count, char** words) {
    if (count < 8) give_up("too few arguments");
    const auto number = [&](int index) { return static_cast<unsigned int>(std::stoul(words[index])); };
    const dim3 grid{number(1), number(2), number(3)}, block{number(4), number(5), number(6)};
    std::vector<Argument> arguments;
    for (int index = 7; index < count; ++index) arguments.push_back(parse(words[index]));
    if (arguments.size() != static_cast<size_t>(emulated_parameters)) give_up("not the kernel's number of arguments");

    emulation::catch_faults();
    const auto first = run_once(grid, block, arguments, emulation::Order::forward);
    const auto reverse = run_once(grid, block, arguments, emulation::Order::reverse);
    const auto shuffled = run_once(grid, block, arguments, emulation::Order::shuffled);
    if (first != reverse || first != shuffled) {
        std::fprintf(stderr, "%s: the result depends on the order of the threads\n", emulated_name);
        return 4;
    }
    size_t next = 0;
    for (const Argument& argument : arguments) {
        if (argument.kind == "out") write_file(argument.file, first[next++]);
    }
    return 0;
}
