#include "core/records/gif.h"

#include <ATen/ATen.h>
#include <gif_lib.h>

#include <cstring>
#include <memory>
#include <string_view>
#include <vector>

#include "core/error.h"

namespace evoke {

namespace {

std::string reason_of(int code) {
  const char* words = GifErrorString(code);
  return words ? words : "no reason given";
}

int read_piece(GifFileType* gif, GifByteType* into, int wanted) {
  auto& rest = *static_cast<std::string_view*>(gif->UserData);
  const size_t count = std::min(rest.size(), static_cast<size_t>(wanted));
  std::memcpy(into, rest.data(), count);
  rest.remove_prefix(count);
  return static_cast<int>(count);
}

// The rows of a frame in the order in which the file holds them.
std::vector<int> rows_in_order(int height, bool interlaced) {
  std::vector<std::pair<int, int>> passes{{0, 1}};  // first row, step
  if (interlaced) passes = {{0, 8}, {4, 8}, {2, 4}, {1, 2}};
  std::vector<int> rows;
  for (const auto& [first, step] : passes)
    for (int row = first; row < height; row += step) rows.push_back(row);
  return rows;
}

}  // namespace

Tensor first_gif_frame(const std::string& bytes, const std::string& where) {
  std::string_view rest = bytes;
  int trouble = 0;
  const std::unique_ptr<GifFileType, void (*)(GifFileType*)> gif(DGifOpen(&rest, read_piece, &trouble), [](GifFileType* opened) {
    int ignored = 0;
    if (opened) DGifCloseFile(opened, &ignored);
  });
  const auto refuse = [&](int code) { fail(Failure::input, where, ": the GIF is torn (", reason_of(code), "); fetch it again"); };
  if (!gif) refuse(trouble);

  // Up to the first frame; the extension before it may name a colour that is transparent.
  int transparent = NO_TRANSPARENT_COLOR;
  for (GifRecordType record = UNDEFINED_RECORD_TYPE; record != IMAGE_DESC_RECORD_TYPE;) {
    if (DGifGetRecordType(gif.get(), &record) == GIF_ERROR) refuse(gif->Error);
    require(record != TERMINATE_RECORD_TYPE, Failure::input, where, ": found a GIF without a frame, expected at least one");
    if (record != EXTENSION_RECORD_TYPE) continue;
    int code = 0;
    GifByteType* block = nullptr;
    if (DGifGetExtension(gif.get(), &code, &block) == GIF_ERROR) refuse(gif->Error);
    while (block) {
      GraphicsControlBlock control;
      if (code == GRAPHICS_EXT_FUNC_CODE && DGifExtensionToGCB(block[0], block + 1, &control) == GIF_OK)
        transparent = control.TransparentColor;
      if (DGifGetExtensionNext(gif.get(), &block) == GIF_ERROR) refuse(gif->Error);
    }
  }
  if (DGifGetImageDesc(gif.get()) == GIF_ERROR) refuse(gif->Error);

  const GifImageDesc& frame = gif->Image;
  const ColorMapObject* colours = frame.ColorMap ? frame.ColorMap : gif->SColorMap;
  const int64_t height = std::max<int64_t>(gif->SHeight, frame.Top + frame.Height);
  const int64_t width = std::max<int64_t>(gif->SWidth, frame.Left + frame.Width);
  require(frame.Height > 0 && frame.Width > 0 && height * width <= (int64_t{1} << 28), Failure::input, where, ": found a GIF of ", width,
          "×", height, " pixels whose first frame has ", frame.Width, "×", frame.Height, ", expected some, and at most 2^28");
  require(colours, Failure::input, where, ": found a GIF without a table of colours, expected one");

  const Tensor out = at::full({height, width, 3}, 255, at::kByte);
  auto* pixels = out.data_ptr<uint8_t>();
  std::vector<GifPixelType> line(static_cast<size_t>(frame.Width));
  for (const int row : rows_in_order(frame.Height, frame.Interlace)) {
    if (DGifGetLine(gif.get(), line.data(), frame.Width) == GIF_ERROR) refuse(gif->Error);
    for (int column = 0; column < frame.Width; ++column) {
      const int index = line[static_cast<size_t>(column)];
      if (index == transparent || index >= colours->ColorCount) continue;
      const GifColorType& colour = colours->Colors[index];
      uint8_t* pixel = pixels + 3 * ((frame.Top + row) * width + frame.Left + column);
      pixel[0] = colour.Red, pixel[1] = colour.Green, pixel[2] = colour.Blue;
    }
  }
  return out;
}

}  // namespace evoke
