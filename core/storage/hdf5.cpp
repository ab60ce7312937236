#include "core/storage/hdf5.h"

#include <ATen/ATen.h>
#include <hdf5.h>
#include <hdf5_hl.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "core/error.h"
#include "core/storage/child_process.h"

namespace evoke {

namespace {

// The innermost complaint of the library's error stack, which is then forgotten: what the system said where it said something, else the
// library's own words. The stack holds the last call alone, closing a handle included: the result is looked at first, the reason read right
// after.
std::string complaint() {
  std::string out;
  H5Ewalk2(
      H5E_DEFAULT, H5E_WALK_DOWNWARD,
      [](unsigned, const H5E_error2_t* entry, void* into) -> herr_t {
        if (entry->desc && *entry->desc) *static_cast<std::string*>(into) = entry->desc;
        return 0;
      },
      &out);
  H5Eclear2(H5E_DEFAULT);
  static constexpr std::string_view system = "error message = '";
  if (const size_t said = out.find(system); said != std::string::npos) {
    const std::string reason = out.substr(said + system.size());
    return reason.substr(0, reason.find('\''));
  }
  if (const size_t line = out.find('\n'); line != std::string::npos) out.resize(line);
  return out.empty() ? "no reason given" : out;
}

// A library handle that closes itself.
class Handle {
 public:
  Handle(hid_t id, herr_t (*close)(hid_t)) : id_(id), close_(close) {}
  Handle(Handle&& other) noexcept : id_(std::exchange(other.id_, -1)), close_(other.close_) {}
  Handle& operator=(Handle&&) = delete;
  ~Handle() {
    if (id_ >= 0) close_(id_);
  }
  operator hid_t() const { return id_; }
  bool good() const { return id_ >= 0; }
  // Closes now and says whether that went well: the last bytes of an array are written here.
  bool close() { return close_(std::exchange(id_, -1)) >= 0; }

 private:
  hid_t id_;
  herr_t (*close_)(hid_t);
};

hid_t id_of(const std::shared_ptr<void>& handle) { return *static_cast<const hid_t*>(handle.get()); }

// Types on disk (little endian) and in memory.
struct Kind {
  at::ScalarType type;
  hid_t disk, memory;
};
const Kind& kind_of(at::ScalarType type, const std::string& where) {
  static const Kind kinds[] = {{at::kByte, H5T_STD_U8LE, H5T_NATIVE_UINT8},
                               {at::kInt, H5T_STD_I32LE, H5T_NATIVE_INT32},
                               {at::kLong, H5T_STD_I64LE, H5T_NATIVE_INT64},
                               {at::kFloat, H5T_IEEE_F32LE, H5T_NATIVE_FLOAT},
                               {at::kDouble, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE}};
  const auto* kind = std::find_if(std::begin(kinds), std::end(kinds), [&](const Kind& k) { return k.type == type; });
  require(kind != std::end(kinds), Failure::runtime, where, ": found ", c10::toString(type),
          ", expected byte, int, long, float or double for HDF5");
  return *kind;
}

std::vector<hsize_t> sizes_of(at::IntArrayRef shape) { return {shape.begin(), shape.end()}; }

Handle space_of(const std::vector<hsize_t>& shape) {
  return {shape.empty() ? H5Screate(H5S_SCALAR) : H5Screate_simple(static_cast<int>(shape.size()), shape.data(), nullptr), H5Sclose};
}

// How an array is stored: chunks of whole rows of about half a MiB, or of parts of a row where a row is longer than 16 MiB, shuffled,
// compressed, with a checksum; no times, so that the same content makes the same bytes. What has no chunks lies in its header, which has a
// checksum of its own.
Handle storage_of(const std::vector<hsize_t>& shape, size_t element) {
  Handle storage(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
  H5Pset_obj_track_times(storage, false);
  if (shape.empty()) H5Pset_layout(storage, H5D_COMPACT);
  if (shape.empty() || std::find(shape.begin(), shape.end(), hsize_t{0}) != shape.end()) return storage;
  std::vector<hsize_t> chunk = shape;
  hsize_t row = element;
  for (size_t i = 1; i < shape.size(); ++i) row *= shape[i];
  chunk[0] = std::clamp<hsize_t>((hsize_t{1} << 19) / row, 1, shape[0]);
  for (size_t i = 1; i < chunk.size() && row > (hsize_t{1} << 24); ++i) {
    row /= chunk[i];
    chunk[i] = std::clamp<hsize_t>((hsize_t{1} << 19) / row, 1, chunk[i]);
    row *= chunk[i];
  }
  H5Pset_chunk(storage, static_cast<int>(chunk.size()), chunk.data());
  H5Pset_shuffle(storage);
  H5Pset_deflate(storage, 4);
  H5Pset_fletcher32(storage);
  return storage;
}

// A link's name is UTF-8.
Handle link_of() {
  Handle link(H5Pcreate(H5P_LINK_CREATE), H5Pclose);
  H5Pset_char_encoding(link, H5T_CSET_UTF8);
  return link;
}

bool exists(hid_t file, const std::string& name) {
  // A link can only be asked for when those before it are there.
  for (size_t slash = name.find('/', 1);; slash = name.find('/', slash + 1)) {
    const std::string part = name.substr(0, slash);
    if (!part.empty() && part != "/") {
      const htri_t found = H5Lexists(file, part.c_str(), H5P_DEFAULT);
      if (found < 0) {
        // In an array there are no links: only of a group is that a damage.
        const std::string reason = complaint(), above = part.substr(0, part.rfind('/'));
        H5O_info_t info{};
        if (!above.empty() && H5Oget_info_by_name(file, above.c_str(), &info, H5P_DEFAULT) >= 0 && info.type != H5O_TYPE_GROUP)
          return false;
        fail(Failure::input, name, " cannot be looked for (", reason, "); the file is damaged");
      }
      if (found == 0) return false;
    }
    if (slash == std::string::npos) return true;
  }
}

// How a group is made: without times, and with all its links in its header, which has a checksum. (More than eight would go into a heap, on
// whose damage the library itself may stumble.)
void keep_links_in_the_header(hid_t group) {
  H5Pset_obj_track_times(group, false);
  H5Pset_link_phase_change(group, 4096, 4095);
}

// Makes the groups of a path that are not there yet.
void make_groups(hid_t file, const std::string& name, const std::string& where) {
  for (size_t slash = name.find('/', 1); slash != std::string::npos; slash = name.find('/', slash + 1)) {
    const std::string group = name.substr(0, slash);
    if (exists(file, group)) continue;
    const Handle plain(H5Pcreate(H5P_GROUP_CREATE), H5Pclose), link = link_of();
    keep_links_in_the_header(plain);
    const Handle made(H5Gcreate2(file, group.c_str(), link, plain, H5P_DEFAULT), H5Gclose);
    if (!made.good()) fail(Failure::runtime, where, ": group ", group, " cannot be made (", complaint(), ")");
  }
}

struct Array {
  Handle set, space;
  std::vector<int64_t> shape;
};

// An array that has to be there.
Array array_of(hid_t file, const std::string& where, const std::string& name) {
  require(exists(file, name), Failure::input, where, ": found no array ", name, ", expected one");
  Handle set(H5Dopen2(file, name.c_str(), H5P_DEFAULT), H5Dclose);
  if (!set.good()) fail(Failure::input, where, ": ", name, " cannot be opened as an array (", complaint(), ")");
  Handle space(H5Dget_space(set), H5Sclose);
  const int dimensions = H5Sget_simple_extent_ndims(space);
  require(dimensions >= 0 && dimensions <= 32, Failure::input, where, ": ", name, " has no plain shape");
  std::vector<hsize_t> sizes(dimensions);
  H5Sget_simple_extent_dims(space, sizes.data(), nullptr);
  require(H5Sget_simple_extent_type(space) != H5S_NULL, Failure::input, where, ": ", name, " holds nothing");
  return {std::move(set), std::move(space), {sizes.begin(), sizes.end()}};
}

// The tensor type that holds what is stored.
at::ScalarType type_of(hid_t set, const std::string& where) {
  const Handle type(H5Dget_type(set), H5Tclose);
  const size_t size = H5Tget_size(type);
  switch (H5Tget_class(type)) {
    case H5T_FLOAT:
      return size <= 4 ? at::kFloat : at::kDouble;
    case H5T_INTEGER: {
      const bool is_signed = H5Tget_sign(type) != H5T_SGN_NONE;
      if (size == 1 && !is_signed) return at::kByte;
      return size < 4 || (size == 4 && is_signed) ? at::kInt : at::kLong;
    }
    default:
      fail(Failure::input, where, ": found an array of neither whole numbers nor floating point, expected numbers");
  }
}

// The part of a space of `count` that begins at `start`.
void select_part(const Handle& space, const std::vector<int64_t>& start, const std::vector<int64_t>& count) {
  const std::vector<hsize_t> from = sizes_of(start), size = sizes_of(count);
  H5Sselect_hyperslab(space, H5S_SELECT_SET, from.data(), nullptr, size.data(), nullptr);
}

Tensor read_selected(const Array& array, std::vector<int64_t> shape, const std::string& where, int64_t first) {
  const at::ScalarType type = type_of(array.set, where);
  Tensor out;
  try {
    out = at::empty(shape, type);
  } catch (const std::exception&) {
    fail(Failure::input, where, ": found an array of ", shape_text(shape),
         ", for which there is no memory; the file is foreign or damaged");
  }
  if (out.numel() == 0) return out;
  if (!shape.empty()) {
    std::vector<int64_t> start(shape.size(), 0);
    start[0] = first;
    select_part(array.space, start, shape);
  }
  const Handle memory = space_of(sizes_of(shape));
  if (H5Dread(array.set, kind_of(type, where).memory, memory, array.space, H5P_DEFAULT, out.data_ptr()) < 0)
    fail(Failure::input, where, ": cannot be read (", complaint(), "); the file is damaged");
  return out;
}

bool is_scale(hid_t file, const std::string& name) {
  const Handle object(H5Oopen(file, name.c_str(), H5P_DEFAULT), H5Oclose);
  return object.good() && H5Iget_type(object) == H5I_DATASET && H5DSis_scale(object) > 0;
}

// Names the axes of an array: a label each, and a scale /NAME (0, 1, …) that arrays of the same length share; or /NAME_LENGTH where that
// name is taken. They lie in the root, where netCDF's readers, xarray's among them, look for them.
void name_axes(hid_t file, hid_t set, const std::string& where, const std::vector<int64_t>& shape, const std::vector<std::string>& axes) {
  require(axes.size() <= shape.size(), Failure::runtime, where, ": found ", axes.size(), " names for ", shape.size(), " axes");
  for (size_t i = 0; i < axes.size(); ++i) {
    const auto cannot = [&] { fail(Failure::runtime, where, ": axis ", axes[i], " cannot be named (", complaint(), ")"); };
    const auto axis = static_cast<unsigned>(i);
    if (H5DSset_label(set, axis, axes[i].c_str()) < 0) cannot();
    std::string name = "/" + axes[i];
    if (exists(file, name) && (!is_scale(file, name) || array_of(file, where, name).shape != std::vector<int64_t>{shape[i]}))
      name += text("_", shape[i]);
    if (!exists(file, name)) {
      const std::vector<hsize_t> length{static_cast<hsize_t>(shape[i])};
      make_groups(file, name, where);
      const Handle space = space_of(length), storage = storage_of(length, 8), link = link_of();
      const Handle scale(H5Dcreate2(file, name.c_str(), H5T_STD_I64LE, space, link, storage, H5P_DEFAULT), H5Dclose);
      if (!scale.good()) cannot();
      const Tensor places = at::arange(shape[i], at::kLong);
      if (shape[i] > 0 && H5Dwrite(scale, H5T_NATIVE_INT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, places.data_ptr()) < 0) cannot();
      if (H5DSset_scale(scale, axes[i].c_str()) < 0) cannot();
    }
    const Handle scale(H5Dopen2(file, name.c_str(), H5P_DEFAULT), H5Dclose);
    if (!scale.good() || H5DSattach_scale(set, scale, axis) < 0) cannot();
  }
}

// Before an array goes, its scales have to forget it.
void detach_scales(hid_t file, const std::string& name) {
  const Handle object(H5Oopen(file, name.c_str(), H5P_DEFAULT), H5Oclose);
  if (H5Iget_type(object) == H5I_GROUP) {
    hsize_t count = 0;
    H5Gget_num_objs(object, &count);
    for (hsize_t i = 0; i < count; ++i) {
      char child[1024];
      H5Lget_name_by_idx(object, ".", H5_INDEX_NAME, H5_ITER_INC, i, child, sizeof(child), H5P_DEFAULT);
      detach_scales(file, name + "/" + child);
    }
  } else if (H5Iget_type(object) == H5I_DATASET) {
    const Array array = array_of(file, name, name);
    for (unsigned axis = 0; axis < array.shape.size(); ++axis)
      while (H5DSget_num_scales(array.set, axis) > 0) {
        std::string scale;
        int index = 0;
        const auto first = [](hid_t, unsigned, hid_t found, void* into) -> herr_t {
          char path[1024];
          H5Iget_name(found, path, sizeof(path));
          *static_cast<std::string*>(into) = path;
          return 1;
        };
        H5DSiterate_scales(array.set, axis, &index, first, &scale);
        const Handle opened(scale.empty() ? -1 : H5Dopen2(file, scale.c_str(), H5P_DEFAULT), H5Dclose);
        if (!opened.good() || H5DSdetach_scale(array.set, opened, axis) < 0) break;
      }
  }
  H5Eclear2(H5E_DEFAULT);
}

Handle text_type(size_t length) {
  Handle type(H5Tcopy(H5T_C_S1), H5Tclose);
  H5Tset_size(type, std::max<size_t>(length, 1));
  H5Tset_strpad(type, H5T_STR_NULLPAD);
  H5Tset_cset(type, H5T_CSET_UTF8);
  return type;
}

// Text of fixed or variable length; `read` is H5Dread or H5Aread for a given type in memory.
std::vector<std::string> text_of(hid_t type, hid_t space, size_t count, const std::function<herr_t(hid_t, void*)>& read, bool& good) {
  std::vector<std::string> lines;
  if (H5Tis_variable_str(type) > 0) {
    std::vector<char*> found(count, nullptr);
    const Handle memory(H5Tcopy(H5T_C_S1), H5Tclose);
    H5Tset_size(memory, H5T_VARIABLE);
    H5Tset_cset(memory, H5Tget_cset(type));
    good = read(memory, found.data()) >= 0;
    if (!good) return lines;
    for (const char* line : found) lines.emplace_back(line ? line : "");
    H5Dvlen_reclaim(memory, space, H5P_DEFAULT, found.data());
    return lines;
  }
  const size_t length = H5Tget_size(type);
  std::string all(length * count, '\0');
  good = read(type, all.data()) >= 0;
  for (size_t i = 0; good && i < count; ++i) {
    std::string line = all.substr(i * length, length);
    line.resize(std::strlen(line.c_str()));
    if (H5Tget_strpad(type) == H5T_STR_SPACEPAD) line.resize(line.find_last_not_of(' ') + 1);
    lines.push_back(line);
  }
  return lines;
}

}  // namespace

namespace {

// Before the library's first use: its complaints stay off stderr, and it does nothing as the process ends. Every file is closed by then,
// and what a full disk left unwritten would make it crash there.
void prepare_library() {
  static const bool once = [] {
    H5dont_atexit();  // refused where another library has begun to use HDF5
    return H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr) >= 0;
  }();
  static_cast<void>(once);
}

}  // namespace

std::string hdf5_version() {
  prepare_library();
  unsigned major = 0, minor = 0, release = 0;
  H5get_libversion(&major, &minor, &release);
  return text(major, ".", minor, ".", release);
}

Hdf5::Hdf5(const std::string& file, int64_t handle)
    : file_(file), handle_(new hid_t(handle), [](void* held) {
        auto* id = static_cast<hid_t*>(held);
        H5Fclose(*id);
        H5Eclear2(H5E_DEFAULT);
        delete id;
      }) {}

namespace {

// How a file is opened: closing it closes everything that hangs on it, and what is written is of the format of HDF5 1.10, in which headers,
// groups and the places of chunks have checksums, too.
Handle access_of(bool writing) {
  prepare_library();
  Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
  H5Pset_fclose_degree(access, H5F_CLOSE_STRONG);
  if (writing) H5Pset_libver_bounds(access, H5F_LIBVER_V110, H5F_LIBVER_V110);
  return access;
}

// The layouts of HDF5 before 1.10, which h5py still writes by default, have no checksums in their headers, and the library may crash on
// damaged ones, or go round in a circle.
bool has_old_layout(const std::string& file) {
  std::ifstream in(file, std::ios::binary);
  // The first block lies at 0, or behind something else at 512, 1024, 2048…
  for (std::streamoff at = 0; in; at = at == 0 ? 512 : 2 * at) {
    char head[9] = {};
    if (in.seekg(at).read(head, sizeof head) && std::memcmp(head, "\x89HDF\r\n\x1a\n", 8) == 0) return head[8] < 2;
  }
  return false;
}

// Reads whatever a reader may ask for: all headers, where all chunks lie, text and attributes, and numbers where they are few.
void read_through(const Hdf5& file, hid_t id) {
  constexpr int64_t few = 1 << 20;
  const auto attempt = [](const auto& act) {
    try {
      act();
    } catch (const std::exception&) {
    }
  };
  std::vector<std::pair<std::string, bool>> found;  // name, is it an array?
  H5Ovisit(
      id, H5_INDEX_NAME, H5_ITER_INC,
      [](hid_t, const char* name, const H5O_info_t* info, void* into) -> herr_t {
        const std::string full = std::strcmp(name, ".") == 0 ? "/" : text("/", name);
        static_cast<decltype(found)*>(into)->emplace_back(full, info->type == H5O_TYPE_DATASET);
        return 0;
      },
      &found);
  for (const auto& [name, array] : found) {
    attempt([&, name = name] { file.names(name); });
    if (!array) continue;
    attempt([&, name = name] {
      const Array held = array_of(id, "", name);
      hsize_t chunks = 0;
      H5Dget_num_chunks(held.set, held.space, &chunks);
      int64_t count = 1;
      for (const int64_t size : held.shape) count = size == 0 ? 0 : count > few / size ? few + 1 : count * size;
      if (count <= few) attempt([&] { file.read(name); });
      if (!held.shape.empty() && held.shape[0] > 0) {
        const int64_t row = count / held.shape[0];
        if (row <= few) attempt([&] { file.read_rows(name, 0, 1), file.read_rows(name, held.shape[0] - 1, 1); });
      }
      attempt([&] { file.read_text(name); });
    });
  }
  H5Aiterate2(
      id, H5_INDEX_NAME, H5_ITER_INC, nullptr,
      [](hid_t, const char* name, const H5A_info_t*, void* into) -> herr_t {
        try {
          static_cast<const Hdf5*>(into)->attribute(name);
        } catch (const std::exception&) {
        }
        return 0;
      },
      const_cast<Hdf5*>(&file));
}

hid_t opened_existing(const std::string& file, unsigned mode) {
  std::error_code none;
  require(std::filesystem::is_regular_file(file, none), Failure::input, file, ": found no file, expected an HDF5 file there");
  const Handle access = access_of(mode == H5F_ACC_RDWR);
  const hid_t id = H5Fopen(file.c_str(), mode, access);
  if (id < 0) fail(Failure::input, file, ": cannot be opened as HDF5 (", complaint(), "); it is truncated or foreign");
  return id;
}

}  // namespace

Hdf5 Hdf5::open(const std::string& file) {
  if (has_old_layout(file)) {
    constexpr int seconds = 20;
    const Ending ending = run_in_child(
        [&] {
          try {
            const Hdf5 tried(file, opened_existing(file, H5F_ACC_RDONLY));
            read_through(tried, id_of(tried.handle_));
          } catch (const std::exception&) {  // said by this process, where it meets the same
          }
        },
        seconds);
    if (ending != Ending::well)
      fail(Failure::input, file, ": the HDF5 library ",
           ending == Ending::endless ? text("did not come to an end in ", seconds, " s") : "crashed",
           " as a process of its own tried to read it; the file is damaged: copy what can be read (h5repack, h5py) and name the copy");
  }
  return Hdf5(file, opened_existing(file, H5F_ACC_RDONLY));
}
Hdf5 Hdf5::edit(const std::string& file) {
  if (has_old_layout(file)) open(file);
  return Hdf5(file, opened_existing(file, H5F_ACC_RDWR));
}
Hdf5 Hdf5::create(const std::string& file) {
  const Handle access = access_of(true), plain(H5Pcreate(H5P_FILE_CREATE), H5Pclose);
  keep_links_in_the_header(plain);  // of the root group
  const hid_t id = H5Fcreate(file.c_str(), H5F_ACC_TRUNC, plain, access);
  if (id < 0) fail(Failure::runtime, file, ": cannot be made (", complaint(), ")");
  return Hdf5(file, id);
}

bool Hdf5::has(const std::string& name) const {
  try {
    return exists(id_of(handle_), name);
  } catch (const Error& e) {
    fail(e.kind(), file_, ": ", e.what());
  }
}

std::vector<std::string> Hdf5::names(const std::string& group) const {
  require(has(group), Failure::input, file_, ": found no group ", group, ", expected one");
  const Handle opened_group(H5Gopen2(id_of(handle_), group.c_str(), H5P_DEFAULT), H5Gclose);
  if (!opened_group.good()) fail(Failure::input, file_, ": ", group, " is no group (", complaint(), ")");
  std::vector<std::string> out;
  const herr_t listed = H5Literate(
      opened_group, H5_INDEX_NAME, H5_ITER_INC, nullptr,
      [](hid_t, const char* name, const H5L_info_t*, void* into) -> herr_t {
        static_cast<std::vector<std::string>*>(into)->emplace_back(name);
        return 0;
      },
      &out);
  if (listed < 0) fail(Failure::input, file_, ": ", group, " cannot be listed (", complaint(), "); the file is damaged");
  return out;
}

bool Hdf5::is_axis(const std::string& name) const { return is_scale(id_of(handle_), name); }

std::vector<int64_t> Hdf5::shape(const std::string& name) const { return array_of(id_of(handle_), file_, name).shape; }

Tensor Hdf5::read(const std::string& name) const {
  const Array array = array_of(id_of(handle_), file_, name);
  return read_selected(array, array.shape, text(file_, ": ", name), 0);
}

Tensor Hdf5::read_rows(const std::string& name, int64_t first, int64_t rows) const {
  const Array array = array_of(id_of(handle_), file_, name);
  std::vector<int64_t> shape = array.shape;
  require(!shape.empty() && first >= 0 && rows >= 0 && rows <= shape[0] - first, Failure::input, file_, ": ", name, ": found shape ",
          shape_text(shape), ", asked for rows ", first, " to ", first + rows);
  shape[0] = rows;
  return read_selected(array, shape, text(file_, ": ", name), first);
}

namespace {

// Lines [first, first + lines) of a list of text; all of it where `lines` is -1.
std::vector<std::string> lines_of(hid_t file, const std::string& where, const std::string& name, int64_t first, int64_t lines) {
  const Array array = array_of(file, where, name);
  const Handle type(H5Dget_type(array.set), H5Tclose);
  require(H5Tget_class(type) == H5T_STRING && array.shape.size() <= 1, Failure::input, where, ": ", name,
          ": found no list of text, expected one");
  const int64_t all = array.shape.empty() ? 1 : array.shape[0], count = lines < 0 ? all : lines;
  require(first >= 0 && count <= all - first, Failure::input, where, ": ", name, ": found ", all, " lines, asked for ", first, " to ",
          first + count);
  if (count == 0) return {};
  if (!array.shape.empty()) select_part(array.space, {first}, {count});
  const Handle memory = space_of({static_cast<hsize_t>(count)});
  bool good = false;
  const auto read = [&](hid_t kind, void* into) { return H5Dread(array.set, kind, memory, array.space, H5P_DEFAULT, into); };
  std::vector<std::string> out = text_of(type, memory, static_cast<size_t>(count), read, good);
  if (!good) fail(Failure::input, where, ": ", name, ": cannot be read (", complaint(), "); the file is damaged");
  return out;
}

}  // namespace

std::vector<std::string> Hdf5::read_text(const std::string& name) const { return lines_of(id_of(handle_), file_, name, 0, -1); }
std::vector<std::string> Hdf5::read_lines(const std::string& name, int64_t first, int64_t lines) const {
  return lines_of(id_of(handle_), file_, name, first, std::max<int64_t>(lines, 0));
}

void Hdf5::reserve(const std::string& name, std::vector<int64_t> shape, at::ScalarType scalar, const std::vector<std::string>& axes) {
  const std::string where = text(file_, ": ", name);
  require(!has(name), Failure::runtime, where, ": found it there already, expected a new name");
  const Kind& kind = kind_of(scalar, where);
  const std::vector<hsize_t> sizes = sizes_of(shape);
  make_groups(id_of(handle_), name, where);
  const Handle space = space_of(sizes), storage = storage_of(sizes, c10::elementSize(scalar)), link = link_of();
  Handle set(H5Dcreate2(id_of(handle_), name.c_str(), kind.disk, space, link, storage, H5P_DEFAULT), H5Dclose);
  if (!set.good()) fail(Failure::runtime, where, ": cannot be made (", complaint(), ")");
  name_axes(id_of(handle_), set, where, shape, axes);
  if (!set.close()) fail(Failure::runtime, where, ": cannot be written (", complaint(), ")");
}

std::vector<int64_t> Hdf5::chunk(const std::string& name) const {
  const Array array = array_of(id_of(handle_), file_, name);
  const Handle storage(H5Dget_create_plist(array.set), H5Pclose);
  std::vector<hsize_t> sizes(array.shape.size());
  if (H5Pget_layout(storage) != H5D_CHUNKED || H5Pget_chunk(storage, static_cast<int>(sizes.size()), sizes.data()) < 0) {
    H5Eclear2(H5E_DEFAULT);
    return array.shape;
  }
  return {sizes.begin(), sizes.end()};
}

void Hdf5::write_part(const std::string& name, std::vector<int64_t> start, const Tensor& values) {
  const std::string where = text(file_, ": ", name);
  Array array = array_of(id_of(handle_), file_, name);
  const Tensor held = values.detach().cpu().contiguous();
  bool fits = held.dim() == static_cast<int64_t>(array.shape.size()) && start.size() == array.shape.size();
  for (size_t i = 0; fits && i < start.size(); ++i) fits = start[i] >= 0 && held.size(i) <= array.shape[i] - start[i];
  require(fits, Failure::runtime, where, ": found values ", shape_text(held.sizes()), " to begin at ", shape_text(start),
          ", expected them to fit into ", shape_text(array.shape));
  if (held.numel() == 0) return;
  if (!start.empty()) select_part(array.space, start, held.sizes().vec());

  // What a full disk refuses may show only when the array is closed or the file flushed.
  const Handle memory = space_of(sizes_of(held.sizes()));
  if (H5Dwrite(array.set, kind_of(held.scalar_type(), where).memory, memory, array.space, H5P_DEFAULT, held.data_ptr()) < 0 ||
      !array.set.close() || H5Fflush(id_of(handle_), H5F_SCOPE_LOCAL) < 0)
    fail(Failure::runtime, where, ": cannot be written (", complaint(), ")");
}

void Hdf5::write_rows(const std::string& name, int64_t first, const Tensor& rows) {
  const std::vector<int64_t> whole = shape(name);
  std::vector<int64_t> start(whole.size(), 0), expected = whole;
  if (!whole.empty()) start[0] = first;
  if (!whole.empty() && rows.dim() > 0) expected[0] = rows.size(0);
  require(rows.sizes().vec() == expected, Failure::runtime, file_, ": ", name, ": found rows ", shape_text(rows.sizes()), " from row ",
          first, ", expected them to fit into ", shape_text(whole));
  write_part(name, start, rows);
}

void Hdf5::keep_rows(const std::string& name, int64_t rows) {
  const auto cut = [&](hid_t set, std::vector<hsize_t> sizes) {
    sizes.at(0) = static_cast<hsize_t>(rows);
    return H5Dset_extent(set, sizes.data()) >= 0;
  };
  const Array array = array_of(id_of(handle_), file_, name);
  require(!array.shape.empty() && rows >= 1 && rows <= array.shape[0], Failure::runtime, file_, ": ", name, ": found shape ",
          shape_text(array.shape), ", asked to keep ", rows, " rows");
  bool good = cut(array.set, sizes_of(array.shape));
  const auto cut_scale = [](hid_t, unsigned, hid_t scale, void* length) -> herr_t {
    return H5Dset_extent(scale, static_cast<hsize_t*>(length)) < 0 ? -1 : 0;
  };
  auto length = static_cast<hsize_t>(rows);
  if (good && H5DSget_num_scales(array.set, 0) > 0) good = H5DSiterate_scales(array.set, 0, nullptr, cut_scale, &length) >= 0;
  if (!good) fail(Failure::runtime, file_, ": ", name, ": cannot be cut to ", rows, " rows (", complaint(), ")");
}

void Hdf5::write(const std::string& name, const Tensor& array, const std::vector<std::string>& axes) {
  require(array.defined(), Failure::runtime, file_, ": ", name, ": cannot be written: it holds nothing");
  reserve(name, array.sizes().vec(), array.scalar_type(), axes);
  write_rows(name, 0, array);
}

void Hdf5::write_text(const std::string& name, const std::vector<std::string>& lines) {
  const std::string where = text(file_, ": ", name);
  require(!has(name), Failure::runtime, where, ": found it there already, expected a new name");
  size_t length = 1;
  for (const auto& line : lines) length = std::max(length, line.size());
  std::string all(length * lines.size(), '\0');
  for (size_t i = 0; i < lines.size(); ++i) lines[i].copy(all.data() + i * length, length);

  const std::vector<hsize_t> sizes{lines.size()};
  make_groups(id_of(handle_), name, where);
  const Handle type = text_type(length), space = space_of(sizes), storage = storage_of(sizes, length), link = link_of();
  Handle set(H5Dcreate2(id_of(handle_), name.c_str(), type, space, link, storage, H5P_DEFAULT), H5Dclose);
  if (!set.good() || (!lines.empty() && H5Dwrite(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, all.data()) < 0) || !set.close() ||
      H5Fflush(id_of(handle_), H5F_SCOPE_LOCAL) < 0)
    fail(Failure::runtime, where, ": cannot be written (", complaint(), ")");
}

void Hdf5::remove(const std::string& name) {
  require(has(name) && name != "/", Failure::input, file_, ": found no ", name, " to take out");
  detach_scales(id_of(handle_), name);
  if (H5Ldelete(id_of(handle_), name.c_str(), H5P_DEFAULT) < 0 || H5Fflush(id_of(handle_), H5F_SCOPE_LOCAL) < 0)
    fail(Failure::runtime, file_, ": ", name, " cannot be taken out (", complaint(), ")");
}

std::string Hdf5::attribute(const std::string& name, const std::string& otherwise) const {
  const htri_t found = H5Aexists(id_of(handle_), name.c_str());
  if (found < 0) fail(Failure::input, file_, ": attribute ", name, " cannot be looked for (", complaint(), "); the file is damaged");
  if (found == 0) return otherwise;
  const Handle attribute(H5Aopen(id_of(handle_), name.c_str(), H5P_DEFAULT), H5Aclose);
  const Handle type(H5Aget_type(attribute), H5Tclose), space(H5Aget_space(attribute), H5Sclose);
  require(attribute.good() && H5Sget_simple_extent_npoints(space) == 1, Failure::input, file_, ": attribute ", name, " is no single value");
  if (H5Tget_class(type) != H5T_STRING) {  // a foreign file's number
    double number = 0;
    require(H5Aread(attribute, H5T_NATIVE_DOUBLE, &number) >= 0, Failure::input, file_, ": attribute ", name,
            " is neither text nor a number");
    return text(number);
  }
  bool good = false;
  const auto lines = text_of(
      type, space, 1, [&](hid_t memory, void* into) { return H5Aread(attribute, memory, into); }, good);
  if (!good) fail(Failure::input, file_, ": attribute ", name, " cannot be read (", complaint(), ")");
  return lines[0];
}

void Hdf5::set_attribute(const std::string& name, const std::string& value) {
  const hid_t file = id_of(handle_);
  if (H5Aexists(file, name.c_str()) > 0) H5Adelete(file, name.c_str());
  const Handle type = text_type(value.size()), space = space_of({});
  const Handle attribute(H5Acreate2(file, name.c_str(), type, space, H5P_DEFAULT, H5P_DEFAULT), H5Aclose);
  const std::string held = value.empty() ? std::string(1, '\0') : value;
  if (!attribute.good() || H5Awrite(attribute, type, held.data()) < 0 || H5Fflush(file, H5F_SCOPE_LOCAL) < 0)
    fail(Failure::runtime, file_, ": attribute ", name, " cannot be written (", complaint(), ")");
}

}  // namespace evoke
