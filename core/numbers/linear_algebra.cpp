#include "core/numbers/linear_algebra.h"

#include <ATen/ATen.h>

#include <Eigen/Cholesky>
#include <Eigen/Dense>
#include <Eigen/Eigenvalues>
#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace evoke {

namespace {

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using MatrixMap = Eigen::Map<Matrix>;
using VectorMap = Eigen::Map<Eigen::VectorXd>;

// Float64 on the host, contiguous: the memory that the maps below look at. The tensor itself where it is that already.
Tensor on_host(const Tensor& tensor) { return tensor.detach().to(at::kCPU, at::kDouble).contiguous(); }
Tensor new_matrix(int64_t rows, int64_t columns) { return at::zeros({rows, columns}, at::kDouble); }

MatrixMap matrix(const Tensor& tensor) { return {tensor.data_ptr<double>(), tensor.size(0), tensor.size(1)}; }
VectorMap vector(const Tensor& tensor) { return {tensor.data_ptr<double>(), tensor.numel()}; }

Tensor square_on_host(const Tensor& tensor, std::string_view where) {
  require(tensor.dim() == 2 && tensor.size(0) == tensor.size(1), Failure::input, where, ": found ", shape_text(tensor.sizes()),
          ", expected a square matrix");
  return on_host(tensor);
}

using Solver = Eigen::SelfAdjointEigenSolver<Matrix>;
Solver solved(const Matrix& symmetric, int what) {
  Solver solver(symmetric, what);
  require(solver.info() == Eigen::Success && solver.eigenvalues().allFinite(), Failure::runtime,
          "eigenvalues: found a matrix whose eigenvalues do not converge, expected finite values");
  return solver;
}

Matrix root_of(const Matrix& symmetric) {
  const Solver solver = solved(symmetric, Eigen::ComputeEigenvectors);
  const Eigen::VectorXd roots = solver.eigenvalues().cwiseMax(0.0).cwiseSqrt();
  return solver.eigenvectors() * roots.asDiagonal() * solver.eigenvectors().transpose();
}

Matrix symmetric_part(const Matrix& any) { return 0.5 * (any + any.transpose()); }

}  // namespace

void Moments::add(const Tensor& rows) {
  require_shape(rows, {-1, mean_.defined() ? mean_.size(0) : -1}, "moments: rows");
  require(rows.size(0) > 0, Failure::input, "moments: found no rows, expected at least one");
  const Tensor part = on_host(rows);
  const int64_t size = part.size(1);
  if (count_ == 0) {
    mean_ = at::zeros({size}, at::kDouble);
    scatter_ = new_matrix(size, size);
  }
  const auto x = matrix(part);
  auto mean = vector(mean_);
  auto scatter = matrix(scatter_);

  const auto before = static_cast<double>(count_), now = static_cast<double>(part.size(0)), all = before + now;
  const Eigen::VectorXd centre = x.colwise().mean().transpose(), shift = centre - mean;
  const Matrix centred = x.rowwise() - centre.transpose();
  scatter.noalias() += centred.transpose() * centred;
  scatter.noalias() += (before * now / all) * shift * shift.transpose();
  mean += shift * (now / all);
  count_ += part.size(0);
}

Tensor Moments::covariance() const {
  require(count_ >= 2, Failure::input, "moments: found ", count_, " rows, expected at least 2 for a covariance");
  return scatter_ / static_cast<double>(count_ - 1);
}

std::optional<Whitening> whitening(const Tensor& covariance) {
  const Tensor given = square_on_host(covariance, "whitening: covariance");
  const Matrix symmetric = symmetric_part(matrix(given));
  if (!symmetric.allFinite()) return std::nullopt;
  const Eigen::LLT<Matrix> cholesky(symmetric);
  if (cholesky.info() != Eigen::Success) return std::nullopt;

  const int64_t size = given.size(0);
  Whitening out{new_matrix(size, size), new_matrix(size, size), 0};
  auto factor = matrix(out.factor), inverse = matrix(out.inverse);
  factor = cholesky.matrixL();
  inverse.setIdentity();
  factor.triangularView<Eigen::Lower>().solveInPlace(inverse);
  out.log_determinant = factor.diagonal().array().log().sum();
  if (!factor.allFinite() || !inverse.allFinite()) return std::nullopt;
  return out;
}

Tensor symmetric_eigenvalues(const Tensor& given) {
  const Tensor host = square_on_host(given, "eigenvalues: matrix");
  const Tensor out = at::empty({host.size(0)}, at::kDouble);
  if (host.size(0) > 0) vector(out) = solved(matrix(host), Eigen::EigenvaluesOnly).eigenvalues();
  return out;
}

Tensor symmetric_square_root(const Tensor& given) {
  const Tensor host = square_on_host(given, "square root: matrix"), out = new_matrix(host.size(0), host.size(0));
  if (host.size(0) > 0) matrix(out) = root_of(symmetric_part(matrix(host)));
  return out;
}

double frechet_distance(const Tensor& mean1, const Tensor& covariance1, const Tensor& mean2, const Tensor& covariance2) {
  require_shape(mean1, {-1}, "Fréchet distance: mean");
  const int64_t size = mean1.size(0);
  require_shape(mean2, {size}, "Fréchet distance: the other mean");
  require_shape(covariance1, {size, size}, "Fréchet distance: covariance");
  require_shape(covariance2, {size, size}, "Fréchet distance: the other covariance");
  const Tensor host1 = on_host(covariance1), host2 = on_host(covariance2), from = on_host(mean1), to = on_host(mean2);
  const auto first = matrix(host1), second = matrix(host2);

  const Matrix root = root_of(symmetric_part(first));
  const Matrix between = symmetric_part(root * second * root);
  const double overlap = solved(between, Eigen::EigenvaluesOnly).eigenvalues().cwiseMax(0.0).cwiseSqrt().sum();
  return std::max(0.0, (vector(from) - vector(to)).squaredNorm() + first.trace() + second.trace() - 2 * overlap);
}

PrincipalComponents principal_components(const Tensor& data, int64_t count) {
  require_shape(data, {-1, -1}, "principal components: data");
  const int64_t rows = data.size(0), size = data.size(1);
  require(rows >= 2, Failure::input, "principal components: found ", rows, " rows, expected at least 2");
  require(count >= 1 && count <= std::min(rows - 1, size), Failure::input, "principal components: found ", count,
          " asked for, expected 1 to ", std::min(rows - 1, size), ", of ", rows, " rows of ", size, " numbers");
  const Tensor host = on_host(data);
  PrincipalComponents out{at::empty({size}, at::kDouble), new_matrix(count, size), at::empty({count}, at::kDouble)};
  vector(out.mean) = matrix(host).colwise().mean().transpose();
  const Matrix centred = matrix(host).rowwise() - vector(out.mean).transpose();

  // Eigenvalues rise: the last are the widest. Of the products of rows, an eigenvector u gives the direction Xᵀu.
  const bool tall = rows > size;
  const Solver solver =
      solved(tall ? Matrix(centred.transpose() * centred) : Matrix(centred * centred.transpose()), Eigen::ComputeEigenvectors);
  for (int64_t k = 0; k < count; ++k) {
    const int64_t column = solver.eigenvalues().size() - 1 - k;
    Eigen::VectorXd direction = solver.eigenvectors().col(column);
    if (!tall) direction = (centred.transpose() * direction).eval();
    const double length = direction.norm();
    if (length > 0) direction /= length;
    Eigen::Index largest = 0;
    direction.cwiseAbs().maxCoeff(&largest);
    matrix(out.directions).row(k) = (direction(largest) < 0 ? -direction : direction).transpose();
    vector(out.variances)(k) = std::max(0.0, solver.eigenvalues()(column)) / static_cast<double>(rows - 1);
  }
  return out;
}

}  // namespace evoke
