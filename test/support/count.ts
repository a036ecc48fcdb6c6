// How often a repeated test repeats. `npm run test:soak` runs the full counts; everything else runs a twentieth of them
// by the same code, so that a soak run can't fail in a way that the daily run never tries.

const soak = process.env.FLANNEL_TEST_TIER === 'soak';

/** The full count in a soak run, a twentieth of it (at least 1) otherwise. */
export const count = (full: number): number => (soak ? full : Math.ceil(full / 20));
