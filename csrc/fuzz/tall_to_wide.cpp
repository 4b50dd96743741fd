// tall_to_wide, in order and not, against maps.
#include "tall.hpp"

namespace {

using namespace fuzz;

// In order if that is what the rows are, else by groups: as the binding does.
template <class T, int K, class Out>
bml::Error run(const Rows<T, K>& rows, Book<Out>& out, int threads) {
    bml::Surplus sum;
    bml::Error error{bml::What::times_changed, 0};
    const auto wide = [&](std::size_t n_times) {
        out.book.assign(n_times * at(rows.levels) * 4, Out{7});
        out.duplicate.assign(n_times, 77);
        return bml::Wide<Out>{static_cast<int64_t>(n_times), rows.levels, out.times.data(), out.book.data(),
                              out.duplicate.data()};
    };
    if (const Vec<int64_t> starts = starts_of(rows.ts); !starts.empty()) {
        for (std::size_t t = 0; t + 1 < starts.size(); ++t) out.times.push_back(rows.ts[at(starts[t])]);
        error =
            bml::tall_to_wide(rows.view(), starts.data(), rows.keep, wide(out.times.size()), sum, threads);
    }
    const bool in_order = std::is_sorted(rows.ts.begin(), rows.ts.end());
    REQUIRE(in_order || error);
    REQUIRE(!in_order || error.what != bml::What::times_changed);
    if (!in_order) {  // whatever was found first: bml/kernels/_rows.py asks the same
        sum = {};
        Vec<std::int32_t> slot(rows.ts.size());
        out.times = bml::distinct_times(rows.ts.data(), rows.size(), slot.data(), threads);
        error =
            bml::shuffled_to_wide(rows.view(), slot.data(), rows.keep, wide(out.times.size()), sum, threads);
    }
    out.n_deep = sum.n_deep, out.n_duplicate = sum.n_duplicate, out.n_conflict = sum.n_conflict;
    return error;
}

template <class T, int K, class Out>
void check(Input& in) {
    const Rows<T, K> rows = any_rows<T, K>(in);
    const Book<Out> wanted = book_of<T, K, Out>(rows);
    Book<Out> got;
    const bml::Error error = run<T, K, Out>(rows, got, in.threads());
    if (!wanted.faults.empty()) {
        REQUIRE(wanted.faults.count(error.what) == 1);
        REQUIRE(error.row >= 0 && error.row < rows.size());
        return;
    }
    REQUIRE(!error);
    REQUIRE(got.times == wanted.times);
    REQUIRE(same(got.book, wanted.book));
    REQUIRE(got.duplicate == wanted.duplicate);
    REQUIRE(got.n_deep == wanted.n_deep);
    REQUIRE(got.n_duplicate == wanted.n_duplicate);
    REQUIRE(got.n_conflict == wanted.n_conflict);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Input in(data, size);
    switch (in.number(0, 4)) {
        case 0:
            check<double, 4, double>(in);
            break;
        case 1:
            check<double, 4, float>(in);
            break;
        case 2:
            check<float, 4, float>(in);
            break;
        case 3:
            check<double, 2, float>(in);
            break;
        default:
            check<float, 2, double>(in);
            break;
    }
    return 0;
}
