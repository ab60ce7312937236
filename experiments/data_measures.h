// evoke data spectrum, evoke data patches: what is measured of a dataset's images and kept in a file of its own.
#pragma once
#include <string>

namespace evoke {

/// evoke data patches, with its customary numbers: the training split of `dataset` into `file`, or nothing where the file is that already;
/// false where it is interrupted. Throws Failure::usage for another file of that name.
bool patches_into(const std::string& dataset, const std::string& file);

}  // namespace evoke
