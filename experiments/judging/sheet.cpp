#include "experiments/judging/sheet.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "core/records/contact_sheet.h"
#include "experiments/judging/witness.h"

namespace evoke {

namespace {

std::string readers(const Judges& judges, const Tensors& findings, int64_t row) {
  if (!findings.contains("wanted")) return {};
  const auto wanted = findings.at("wanted")[row].item<int64_t>();
  if (wanted < 0) return {};
  const auto reads = [&](const char* name) { return findings.contains(name) && findings.at(name)[row].item<int64_t>() == wanted; };
  std::string out;
  if (reads("target_class")) out += "T";
  if (reads("oracle_class")) out += "O";
  if (reads("render_class")) out += "R";
  if (judges.witness && judges.witness->same_classes && findings.at("witness_rank")[row].item<int64_t>() == 0) out += "W";
  return out.empty() ? "-" : out;
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
  const std::string title = judges.witness ? "T, O, R, W: target, oracle, render judge, witness see the class"
                                           : "T, O, R: target, oracle, render judge see the class";
  return contact_sheet(cells, static_cast<int64_t>(columns.size()), unit_names, names, columns[0].images.size(1) < 100 ? 2 : 1,
                       captions ? title : "");
}

Tensor method_sheet(const Judges& judges, const SheetColumn& column, const std::vector<std::string>& unit_names) {
  std::vector<Cell> cells;
  for (int64_t row = 0; row < column.images.size(0); ++row) cells.push_back({column.images[row], readers(judges, column.findings, row)});
  return contact_sheet(cells, column.images.size(0) / static_cast<int64_t>(unit_names.size()), unit_names, {}, 1, column.name);
}

}  // namespace evoke
