// needs: files
// Folders of photographs as people have them: files that are no images, empty folders, torn files.
#include "training/datasets/folder.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "core/error.h"
#include "core/records/pictures.h"
#include "core/storage/files.h"
#include "core/storage/hdf5.h"
#include "tests/expect.h"

namespace evoke {
namespace {

namespace fs = std::filesystem;

std::string place(const std::string& name) { return text(::testing::TempDir(), "/evoke_folder_", ::getpid(), "_", name); }

// Six wide cats whose centre is 200, four square apples of 30.
std::string photographs(const std::string& name) {
  const std::string root = place(name);
  for (const char* group : {"cats/within", "apples"}) fs::create_directories(root + "/" + group);
  const Tensor wide = at::zeros({20, 40, 3}, at::kByte);
  wide.slice(1, 10, 30).fill_(200);
  for (int i = 0; i < 6; ++i) save_png(text(root, i == 5 ? "/cats/within/" : "/cats/", i, ".png"), wide);
  for (int i = 0; i < 4; ++i) save_png(text(root, "/apples/", i, ".png"), at::full({16, 16, 3}, 30, at::kByte));
  return root;
}

std::string said_while(const std::function<void()>& body) {
  ::testing::internal::CaptureStderr();
  body();
  return ::testing::internal::GetCapturedStderr();
}

TEST(Folder, OneFolderAClass) {
  const std::string root = photographs("plain"), file = place("plain.h5");
  DatasetWritten written;
  EXPECT_EQ(said_while([&] { written = write_folder(file, root, 16, 3); }), "data folder: 10 images\n");
  EXPECT_EQ(written.images, 10);
  EXPECT_EQ(written.classes, 2);
  const Dataset data = open_dataset(file);
  EXPECT_EQ(data.label_names, (std::vector<std::string>{"apples", "cats"}));
  EXPECT_EQ(data.images.shape(), (std::vector<int64_t>{10, 16, 16, 3}));
  EXPECT_EQ(data.labels.sum().item<int64_t>(), 6);
  EXPECT_TRUE((data.images.read(at::tensor({9L})) == 200).all().item<bool>());
  EXPECT_EQ(data.rows_of(Split::validation).size(0), 1);
  const std::vector<std::string> files = Hdf5::open(file).read_text("files");
  EXPECT_EQ(files.front(), "apples/0.png");
  EXPECT_EQ(files.back(), "cats/within/5.png");
  EXPECT_THROW(write_folder(place("no.h5"), root + "/nowhere", 16, 3), Error);
}

TEST(Folder, FoldersCalledTrainAndTestAreTheSplit) {
  const std::string root = place("split");
  const auto put = [&](const std::string& name, uint8_t grey) {
    fs::create_directories(fs::path(root + "/" + name).parent_path());
    save_png(root + "/" + name, at::full({16, 16, 3}, grey, at::kByte));
  };
  for (int i = 0; i < 20; ++i) put(text("train/", i % 2 ? "cats" : "apples", "/", i, ".png"), 10);
  for (int i = 0; i < 3; ++i) put(text("test/cats/", i, ".png"), 20);
  put("test/dogs/0.png", 20);
  const auto parts = [&](const std::string& file) {
    EXPECT_GT(write_folder(file, root, 16, 3).images, 0);
    const Dataset data = open_dataset(file);
    const Tensor grey = data.images.read(at::arange(data.labels.size(0))).select(1, 0).select(1, 0).select(1, 0),
                 split = Hdf5::open(file).read("/split");
    // What the folders say is tested, or validated, is.
    EXPECT_TRUE(at::equal(grey == 20, split == 2));
    EXPECT_TRUE(at::equal(grey == 30, (split == 1).logical_and(grey != 10)));
    return data;
  };
  Dataset data = parts(place("split.h5"));
  EXPECT_EQ(data.label_names, (std::vector<std::string>{"apples", "cats", "dogs"}));  // cats are the same class in both
  EXPECT_EQ(data.labels.eq(1).sum().item<int64_t>(), 13);
  EXPECT_EQ(data.rows_of(Split::train).size(0), 18);
  EXPECT_EQ(data.rows_of(Split::validation).size(0), 2);  // a tenth of train, which nobody named
  EXPECT_EQ(Hdf5::open(place("split.h5")).read_text("files").back(), "test/dogs/0.png");

  put("val/apples/0.png", 30);
  data = parts(place("split3.h5"));
  EXPECT_EQ(data.rows_of(Split::train).size(0), 20);
  EXPECT_EQ(data.rows_of(Split::validation).size(0), 1);

  // Another folder beside them, or images in one of them: classes, as any.
  put("other/x/0.png", 40);
  write_folder(place("classes.h5"), root, 16, 3);
  EXPECT_EQ(open_dataset(place("classes.h5")).label_names, (std::vector<std::string>{"other", "test", "train", "val"}));
}

TEST(Folder, ImagesWithoutFoldersAreOneClassHoweverTheyAreStored) {
  const std::string root = place("flat"), file = place("flat.h5");
  fs::create_directories(root);
  const Tensor upper = at::zeros({16, 16, 3}, at::kByte);
  upper.slice(0, 0, 8).fill_(240);
  save_png(root + "/colour.png", upper);
  save_png(root + "/grey.png", upper.narrow(2, 0, 1).contiguous());
  EXPECT_EQ(write_folder(file, root, 16, 3).classes, 1);
  const Dataset data = open_dataset(file);
  EXPECT_EQ(data.label_names, (std::vector<std::string>{fs::path(root).filename().string()}));
  EXPECT_EQ(Hdf5::open(file).read_text("files"), (std::vector<std::string>{"colour.png", "grey.png"}));
  const Tensor images = data.images.read(at::tensor({0L, 1L}));
  EXPECT_TRUE(at::equal(images[0], images[1]));
  fs::create_directories(place("nothing"));
  expect_refusal([&] { write_folder(place("no.h5"), place("nothing"), 16, 3); }, Failure::input,
                 {"found no image", "expected images, or a folder for each class"});
}

TEST(Folder, FilesThatAreNoImagesArePassedOverAndCounted) {
  const std::string root = photographs("litter"), file = place("litter.h5");
  write_file(root + "/cats/Thumbs.db", "\xd0\xcf\x11\xe0");
  write_file(root + "/cats/desktop.ini", "[.ShellClassInfo]");
  write_file(root + "/apples/.DS_Store", "Bud1");
  write_file(root + "/apples/letter.png", "a letter, whatever its name says");
  write_file(root + "/apples/empty.jpg", "");
  const std::string said = said_while([&] { EXPECT_EQ(write_folder(file, root, 16, 3).images, 10); });
  EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 2) << said;  // and how many there are
  expect_in("passed over 4 files that are no images: apples/empty.jpg, apples/letter.png, cats/Thumbs.db, cats/desktop.ini", said);
  EXPECT_EQ(open_dataset(file).label_names.size(), 2u);
}

TEST(Folder, AFolderWithoutImagesIsNoClass) {
  const std::string root = photographs("empty"), file = place("empty.h5");
  fs::create_directories(root + "/birds/within");
  fs::create_directories(root + "/dogs");
  write_file(root + "/dogs/torn.png", read_file(root + "/apples/0.png").substr(0, 40));
  const std::string said = said_while([&] { EXPECT_EQ(write_folder(file, root, 16, 3, /*skip_broken=*/true).classes, 2); });
  expect_in("birds holds no image", said);
  expect_in("dogs holds no image", said);
  EXPECT_EQ(open_dataset(file).label_names, (std::vector<std::string>{"apples", "cats"}));
  EXPECT_EQ(open_dataset(file).labels.max().item<int64_t>(), 1);
}

TEST(Folder, TornImagesAreRefusedOrLeftOut) {
  const std::string root = photographs("torn"), file = place("torn.h5");
  write_file(root + "/cats/2.png", read_file(root + "/cats/1.png").substr(0, 60));
  const std::string sentence = refusal([&] { write_folder(file, root, 16, 3); }, Failure::input);
  expect_in("cats/2.png", sentence);
  expect_in("--skip-broken", sentence);
  EXPECT_FALSE(fs::exists(file));
  const std::string said = said_while([&] { EXPECT_EQ(write_folder(file, root, 16, 3, /*skip_broken=*/true).images, 9); });
  expect_in("cats/2.png", said);
  const std::vector<std::string> files = Hdf5::open(file).read_text("files");
  EXPECT_EQ(files.size(), 9u);
  EXPECT_EQ(std::count(files.begin(), files.end(), "cats/2.png"), 0);
  EXPECT_EQ(open_dataset(file).images.shape()[0], 9);
}

}  // namespace
}  // namespace evoke
