// needs: files
// PNG, bytes and contact sheets.
#include "core/records/pictures.h"
#include "core/records/contact_sheet.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "core/error.h"
#include "core/storage/files.h"

namespace evoke {
namespace {

namespace fs = std::filesystem;

std::string place(const std::string& name) {
  const fs::path root = fs::path(::testing::TempDir()) / text("evoke_picture_", ::getpid());
  fs::create_directories(root);
  return (root / name).string();
}

template <class Body>
void expect_refusal(const Body& body, const std::vector<std::string>& parts) {
  ::testing::internal::CaptureStderr();
  try {
    body();
    ADD_FAILURE() << "nothing was thrown; expected " << list_of(parts);
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), Failure::input) << e.what();
    for (const auto& part : parts) EXPECT_NE(std::string(e.what()).find(part), std::string::npos) << e.what() << "\nlacks: " << part;
  }
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
}

Tensor noise(int64_t height, int64_t width, int64_t channels) { return at::randint(256, {height, width, channels}, at::kByte); }

TEST(Picture, BytesGoThereAndBack) {
  const Tensor bytes = at::arange(256, at::kByte).view({1, 16, 16, 1}).expand({2, 16, 16, 3}).contiguous();
  EXPECT_TRUE(at::equal(to_bytes(from_bytes(bytes)), bytes));
  EXPECT_EQ(from_bytes(bytes).sizes(), (std::vector<int64_t>{2, 3, 16, 16}));

  // Out of range is clipped, half way rounds to the nearest.
  const Tensor odd = at::tensor({-1.0f, 2.0f, 0.502f, 0.5f / 255 - 1e-4f}).view({1, 1, 2, 2});
  EXPECT_TRUE(at::equal(to_bytes(odd).flatten(), at::tensor({0, 255, 128, 0}, at::kByte)));
}

TEST(Picture, PngIsLosslessAndRgb) {
  for (const int64_t channels : {1, 3}) {
    const Tensor image = noise(37, 53, channels), kept = image.clone();
    save_png(place("a.png"), image);
    EXPECT_TRUE(at::equal(image, kept));  // the caller's image is not touched
    EXPECT_TRUE(at::equal(load_image(place("a.png"), channels), image));
  }
  // Red is red in the file: the decoder's gray of it is 0.299 · 255.
  Tensor red = at::zeros({4, 4, 3}, at::kByte);
  red.select(2, 0).fill_(255);
  save_png(place("red.png"), red);
  EXPECT_EQ(load_image(place("red.png"), 1)[0][0][0].item<int>(), 76);
}

TEST(Picture, TornAndForeignImagesAreRefused) {
  save_png(place("a.png"), noise(60, 60, 3));
  const std::string whole = read_file(place("a.png"));
  const auto put = [](const std::string& bytes) { std::ofstream(place("bad.png"), std::ios::binary) << bytes; };
  for (const size_t length : {whole.size() - 9, whole.size() / 2, size_t{20}}) {
    put(whole.substr(0, length));
    expect_refusal([&] { load_image(place("bad.png")); }, {place("bad.png"), "torn"});
  }
  // A flipped bit in the middle: libpng's own words stay off stderr.
  std::string flipped = whole;
  flipped[whole.size() / 2] ^= 4;
  put(flipped);
  expect_refusal([&] { load_image(place("bad.png")); }, {place("bad.png"), "the image is torn"});
  put("");
  expect_refusal([&] { load_image(place("bad.png")); }, {"found no image"});
  put("a text that is no picture");
  expect_refusal([&] { load_image(place("bad.png")); }, {place("bad.png"), "found no image", "PNG"});
  expect_refusal([&] { load_image(place("none.png")); }, {place("none.png"), "No such file"});
}

// Red, green, blue and white quarters (tests/golden/pictures.py): the colours in the middle of each.
std::vector<std::vector<int>> quarters_of(const Tensor& image) {
  std::vector<std::vector<int>> out;
  for (const int64_t row : {image.size(0) / 4, 3 * image.size(0) / 4})
    for (const int64_t column : {image.size(1) / 4, 3 * image.size(1) / 4}) {
      out.emplace_back();
      for (int64_t c = 0; c < image.size(2); ++c) out.back().push_back(image[row][column][c].item<int>());
    }
  return out;
}
void expect_near(const std::vector<std::vector<int>>& found, const std::vector<std::vector<int>>& wanted, const std::string& name) {
  ASSERT_EQ(found.size(), wanted.size());
  for (size_t quarter = 0; quarter < found.size(); ++quarter)
    for (size_t c = 0; c < wanted[quarter].size(); ++c) EXPECT_NEAR(found[quarter][c], wanted[quarter][c], 6) << name << ", " << quarter;
}

TEST(Picture, PhotographsOfEveryKindComeOutUprightInRgb) {
  const fs::path folder = fs::path(EVOKE_SOURCE) / "tests/golden/pictures";
  const std::vector<std::vector<int>> colours{{255, 0, 0}, {0, 255, 0}, {0, 0, 255}, {255, 255, 255}};
  for (const char* name : {"plain.bmp", "plain.tiff", "plain.webp", "plain.jpg", "plain.gif", "moving.gif", "palette.png", "sixteen.png",
                           "cmyk.jpg", "turned.jpg"}) {
    EXPECT_TRUE(is_image((folder / name).string())) << name;
    const Tensor image = load_image((folder / name).string());
    EXPECT_EQ(image.sizes(), (std::vector<int64_t>{16, 24, 3})) << name;
    expect_near(quarters_of(image), colours, name);
  }
  const std::vector<std::vector<int>> greys{{76, 76, 76}, {150, 150, 150}, {29, 29, 29}, {255, 255, 255}};
  for (const char* name : {"grey.png", "grey.jpg"}) expect_near(quarters_of(load_image((folder / name).string())), greys, name);
  for (const char* name : {"grey.png", "plain.gif", "turned.jpg"})
    expect_near(quarters_of(load_image((folder / name).string(), 1)), {{76}, {150}, {29}, {255}}, name);
  // What is transparent is white.
  expect_near(quarters_of(load_image((folder / "transparent.gif").string())), {{255, 0, 0}, {0, 255, 0}, {255, 255, 255}, {255, 255, 255}},
              "transparent.gif");
}

TEST(Picture, TornFilesOfEveryKindAreRefusedAndOthersAreNoImages) {
  for (const auto& entry : fs::directory_iterator(fs::path(EVOKE_SOURCE) / "tests/golden/pictures")) {
    const std::string whole = read_file(entry.path().string()), torn = place("torn" + entry.path().extension().string());
    write_file(torn, whole.substr(0, whole.size() / 2));
    EXPECT_TRUE(is_image(torn)) << entry.path();
    expect_refusal([&] { load_image(torn); }, {torn, "torn"});
  }
  for (const std::string& bytes : {std::string("[.ShellClassInfo]\r\n"), std::string("\0\0\0\1Bud1\0\0\x10\0", 12), std::string(),
                                   std::string("\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")}) {
    write_file(place("other"), bytes);
    EXPECT_FALSE(is_image(place("other")));
  }
  write_file(place("a.heic"), std::string("\0\0\0\x18", 4) + "ftypheic and so on");
  EXPECT_TRUE(is_image(place("a.heic")));
  expect_refusal([] { load_image(place("a.heic")); }, {"a.heic", "HEIC", "convert it"});
}

TEST(Picture, ContactSheetShowsEachImageScaledAndEvenlySpaced) {
  std::vector<Cell> cells;
  for (int i = 0; i < 6; ++i) cells.push_back({noise(48, 48, i == 4 ? 1 : 3), ""});
  cells[3].image = Tensor();
  const Tensor sheet = contact_sheet(cells, 3, {}, {}, 2);
  EXPECT_EQ(sheet.size(2), 3);

  // With no words the grid is known: margin 18, gap 10, pictures of 96.
  EXPECT_EQ(sheet.size(1), 2 * 18 + 3 * 96 + 2 * 10);
  for (const int64_t i : {0, 1, 2, 4, 5}) {
    const Tensor found = sheet.narrow(0, 18 + (i / 3) * 106, 96).narrow(1, 18 + (i % 3) * 106, 96);
    const Tensor expected = cells[i].image.repeat_interleave(2, 0).repeat_interleave(2, 1).expand({96, 96, 3});
    EXPECT_TRUE(at::equal(found, expected)) << i;
  }
  // The empty cell is light ground.
  EXPECT_GT(sheet.narrow(0, 18 + 106, 96).narrow(1, 18, 96).min().item<int>(), 200);
}

TEST(Picture, ContactSheetWritesItsWords) {
  const std::vector<Cell> bare(4, {at::full({48, 48, 3}, 255, at::kByte), ""}),
      spoken(4, {at::full({48, 48, 3}, 255, at::kByte), "logits:54 rainbow double triangle 12.3"});
  const auto ink = [](const Tensor& sheet) { return (sheet < 140).sum().item<int64_t>(); };
  EXPECT_EQ(ink(contact_sheet(bare, 2)), 0);
  const int64_t captions = ink(contact_sheet(spoken, 2)), names = ink(contact_sheet(bare, 2, {"first", "second"}, {"pixel", "latent × σ"}));
  EXPECT_GT(captions, 400);
  EXPECT_GT(names, 100);
  EXPECT_GT(ink(contact_sheet(spoken, 2, {"first", "second"}, {"pixel", "latent"}, 2, "A title")), captions + names);

  // Words may widen the sheet only a little, however long they are.
  const std::vector<Cell> endless(2, {at::zeros({8, 8, 3}, at::kByte), std::string(4000, 'w')});
  EXPECT_LT(contact_sheet(endless, 2, {std::string(900, 'm')}, {}, 1, std::string(900, 't')).size(1), 600);
  EXPECT_THROW(contact_sheet(bare, 2, {"one"}), Error);
}

}  // namespace
}  // namespace evoke
