// The 2-byte float: rounded to nearest even from float or double at once, by instruction or by library.
#pragma once

namespace bml {

#ifdef __aarch64__
using Half = __fp16;  // _Float16 is C alone there, before g++ 13
#else
using Half = _Float16;
#endif

}  // namespace bml
