// Compiled once for every instruction set of setup.py, as bml.kernels._core_v3 and so on; Python loads one of
// them. BML_MODULE is the module's name.
#include "arrays.hpp"

PYBIND11_MODULE(BML_MODULE, m) {
    using bml::What;
    m.doc() = "The compiled kernels. Call them through bml.kernels, which checks arrays and words errors.";
    bml::bind::add_everyday(m);
    bml::bind::add_tall_to_wide(m);
    bml::bind::add_day_tensor(m);
    bml::bind::add_resample_grid(m);
    bml::bind::add_depth_profile(m);
    bml::bind::add_bin_depth(m);
    bml::bind::add_daily_moments(m);
    bml::bind::add_gather_windows(m);
    bml::bind::add_pool(m);
    pybind11::dict codes;
    codes["LEVEL_BELOW_ONE"] = static_cast<int>(What::level_below_one);
    codes["SIDE_UNKNOWN"] = static_cast<int>(What::side_unknown);
    codes["DUPLICATE_CONFLICT"] = static_cast<int>(What::duplicate_conflict);
    codes["TIMES_CHANGED"] = static_cast<int>(What::times_changed);
    codes["TIMES_NOT_INCREASING"] = static_cast<int>(What::times_not_increasing);
    codes["GRID_NOT_INCREASING"] = static_cast<int>(What::grid_not_increasing);
    m.attr("ERROR_CODES") = codes;
#ifdef NDEBUG
    m.attr("NDEBUG") = true;
#else
    m.attr("NDEBUG") = false;
#endif
}
