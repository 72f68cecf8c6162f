// Handles that are given out: used after they were destroyed, or destroyed twice, is a violation.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "state.h"

// T has `bool alive`, `int number` and a static `kKind`.
template <typename T>
struct Handles {
    static std::vector<T*>& all() {
        static auto* const made = new std::vector<T*>;
        return *made;
    }
    static T* make() {
        auto* made = new T;
        all().push_back(made);
        made->number = static_cast<int>(all().size());
        return made;
    }
    static T& get(T* handle) {
        if (std::find(all().begin(), all().end(), handle) == all().end()) {
            violation(std::string(T::kKind) + " " + text_of(handle) + " was never made");
        }
        if (!handle->alive) {
            violation(std::string(T::kKind) + " " + std::to_string(handle->number) + " is used after it was destroyed");
        }
        return *handle;
    }
    static void list_alive(std::vector<std::string>& names) {
        for (const T* made : all()) {
            if (made->alive) names.push_back(std::string(T::kKind) + " " + std::to_string(made->number));
        }
    }
};
