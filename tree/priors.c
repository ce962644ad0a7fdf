// See priors.h. Lookup and recycling: fitted as `gorgon calibrate` does, with these two alone,
// along the held-out 5 % of 2M tokens that SmolLM2-135M-Instruct (Q4_1) wrote
// (models/smollm2-135m-instruct), rounded. Datastore: set by hand near what a store of a model's
// own text gave on the same, alone (its bias makes up for that of all edges); its agreement with
// the others as where nothing is known.
#include "priors.h"

const char *const gg_prior_names[GG_PRIORS] = {"lookup", "recycling", "datastore"};

// Lines: shared; lookup; recycling; datastore; agreement of 0 and 1, 0 and 2, 1 and 2.
// clang-format off
const float gg_prior_weights[2 * GG_CALIBRATION_DEPTHS * GG_PRIOR_FLOATS] = {
    // greedy, depth 1
    -0.270f, 0, 0, 0,
    -1.791f, 1.006f, 0.129f, 0.759f, 0.590f, 1.055f, 0.088f,
    1.060f, 0.229f, -0.659f, 0.229f, 0.689f, 1.203f, -0.132f,
    -1.930f, 0.800f, -0.200f, -0.300f, 0.100f, 1.300f, 0.700f,
    -0.731f, -0.897f, -0.447f, 2.000f, 0, 0, 2.000f, 0, 0,
    // greedy, depth 2
    0.236f, 0.119f, 0, 0,
    -1.704f, 1.348f, 0.338f, 0.665f, 0.457f, 0.951f, 0.131f,
    1.065f, 0.205f, -0.836f, 0.205f, 1.015f, 1.324f, -0.144f,
    -2.436f, 0.800f, -0.200f, -0.300f, 0.100f, 1.300f, 0.700f,
    -0.639f, -1.141f, -0.382f, 2.000f, 0, 0, 2.000f, 0, 0,
    // greedy, depth 3
    0.540f, 0.147f, 0, 0,
    -1.834f, 0.970f, 0.141f, 0.580f, 0.476f, 1.058f, 0.084f,
    1.468f, 0.189f, -1.093f, 0.189f, 0.842f, 0.909f, -0.135f,
    -2.740f, 0.800f, -0.200f, -0.300f, 0.100f, 1.300f, 0.700f,
    -0.366f, -0.584f, -0.444f, 2.000f, 0, 0, 2.000f, 0, 0,
    // greedy, depth 4+
    -0.083f, 0.018f, 0, 0.526f,
    -3.051f, 0.827f, 0.046f, 0.579f, 0.532f, 1.801f, 0.230f,
    2.057f, 0.245f, -0.977f, 0.245f, 0.510f, 1.308f, -0.224f,
    -2.117f, 0.800f, -0.200f, -0.300f, 0.100f, 1.300f, 0.700f,
    -0.995f, -0.672f, -0.513f, 2.000f, 0, 0, 2.000f, 0, 0,
    // sampled, depth 1
    -0.635f, 0, 0.468f, 0,
    -1.119f, 1.153f, -0.056f, 0.579f, 0.597f, 0.911f, 0.014f,
    0.892f, 0.212f, -0.557f, 0.212f, 1.110f, 0.992f, -0.116f,
    -2.165f, 0.650f, -0.200f, -0.300f, 0.100f, 1.300f, 0.700f,
    -0.227f, -0.983f, -0.362f, 2.000f, 0, 0, 2.000f, 0, 0,
    // sampled, depth 2
    0.143f, 0.175f, 0.476f, 0,
    -0.682f, 1.277f, -0.001f, 0.504f, 0.325f, 0.793f, -0.043f,
    1.040f, 0.268f, -0.410f, 0.268f, 1.179f, 0.827f, -0.153f,
    -2.943f, 0.650f, -0.200f, -0.300f, 0.100f, 1.300f, 0.700f,
    0.358f, -0.714f, -0.468f, 2.000f, 0, 0, 2.000f, 0, 0,
    // sampled, depth 3
    0.022f, 0.111f, 0.421f, 0,
    -1.919f, 0.713f, -0.274f, 0.544f, 0.518f, 1.330f, -0.003f,
    1.790f, 0.273f, -0.549f, 0.273f, 1.293f, 0.656f, -0.171f,
    -2.822f, 0.650f, -0.200f, -0.300f, 0.100f, 1.300f, 0.700f,
    -0.129f, -0.754f, -0.530f, 2.000f, 0, 0, 2.000f, 0, 0,
    // sampled, depth 4+
    -0.278f, 0.032f, 0.536f, 0.420f,
    -2.301f, 0.505f, -0.208f, 0.705f, 0.418f, 1.560f, -0.054f,
    1.860f, 0.404f, -0.360f, 0.404f, 1.474f, 1.337f, -0.187f,
    -2.522f, 0.650f, -0.200f, -0.300f, 0.100f, 1.300f, 0.700f,
    -0.441f, -0.789f, -0.703f, 2.000f, 0, 0, 2.000f, 0, 0,
};
// clang-format on
