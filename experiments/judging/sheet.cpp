#include "experiments/judging/sheet.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "core/records/contact_sheet.h"
#include "experiments/judging/witness.h"

namespace evoke {

namespace {

// Who may read a picture as a class, with what it finds and the letter that stands for it.
struct Reader {
  const char *finding, *letter, *name;
};
constexpr Reader all_readers[] = {{"target_class", "T", "target"}, {"oracle_class", "O", "oracle"}, {"render_class", "R", "render judge"}};

bool witness_reads(const Judges& judges) { return judges.witness && judges.witness->same_classes; }

// The letters of those who read a picture as its unit's class.
std::string readers(const Judges& judges, const Tensors& findings, int64_t row) {
  if (!findings.contains("wanted")) return {};
  const auto wanted = findings.at("wanted")[row].item<int64_t>();
  if (wanted < 0) return {};
  std::string out;
  for (const Reader& reader : all_readers)
    if (findings.contains(reader.finding) && findings.at(reader.finding)[row].item<int64_t>() == wanted) out += reader.letter;
  if (witness_reads(judges) && findings.at("witness_rank")[row].item<int64_t>() == 0) out += "W";
  return out.empty() ? "-" : out;
}

// What the letters stand for, of those who were asked: "T, W: target, witness see the class".
std::string legend(const Judges& judges, const std::vector<SheetColumn>& columns) {
  std::string letters, names;
  const auto add = [&](const char* letter, const char* name) {
    letters += (letters.empty() ? "" : ", ") + std::string(letter);
    names += (names.empty() ? "" : ", ") + std::string(name);
  };
  for (const Reader& reader : all_readers)
    if (std::any_of(columns.begin(), columns.end(), [&](const SheetColumn& column) { return column.findings.contains(reader.finding); }))
      add(reader.letter, reader.name);
  if (witness_reads(judges)) add("W", "witness");
  return letters + ": " + names + " see the class";
}

// Pictures side by side with a thin white line between: uint8 [n,H,W,C] -> [H,n·W + n − 1,C].
Tensor strip(const Tensor& images) {
  std::vector<Tensor> parts;
  for (int64_t i = 0; i < images.size(0); ++i) {
    if (i > 0) parts.push_back(at::full({images.size(1), 1, images.size(3)}, 255, images.options()));
    parts.push_back(images[i]);
  }
  return at::cat(parts, 1);
}

}  // namespace

Tensor comparison_sheet(const Judges& judges, const std::vector<SheetColumn>& columns, const std::vector<std::string>& unit_names,
                        int64_t shown) {
  std::vector<Cell> cells;
  std::vector<std::string> names;
  for (const SheetColumn& column : columns) names.push_back(column.name);
  bool captions = false;
  for (size_t unit = 0; unit < unit_names.size(); ++unit)
    for (const SheetColumn& column : columns) {
      const int64_t chains = column.images.size(0) / static_cast<int64_t>(unit_names.size()), first = static_cast<int64_t>(unit) * chains,
                    count = std::min(shown, chains);
      std::string caption;
      for (int64_t i = 0; i < count; ++i) {
        const std::string who = readers(judges, column.findings, first + i);
        caption += (caption.empty() || who.empty() ? "" : " | ") + who;
      }
      captions = captions || !caption.empty();
      cells.push_back({strip(column.images.narrow(0, first, count)), caption});
    }
  return contact_sheet(cells, static_cast<int64_t>(columns.size()), unit_names, names, columns[0].images.size(1) < 100 ? 2 : 1,
                       captions ? legend(judges, columns) : "");
}

Tensor method_sheet(const Judges& judges, const SheetColumn& column, const std::vector<std::string>& unit_names) {
  std::vector<Cell> cells;
  for (int64_t row = 0; row < column.images.size(0); ++row) cells.push_back({column.images[row], readers(judges, column.findings, row)});
  return contact_sheet(cells, column.images.size(0) / static_cast<int64_t>(unit_names.size()), unit_names, {}, 1, column.name);
}

}  // namespace evoke
