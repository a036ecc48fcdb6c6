// What the kernel keeps of a token bucket's size: the time it takes to fill, in ticks of 64 ns (net/sched/sch_tbf.c,
// PSCHED_SHIFT; /proc/net/psched). tc and the reference bandwidth plugin count that time in whole microseconds.

const MICROSECONDS = 1_000_000;
const TICKS_PER_MICROSECOND = 15.625;
const MAX_TICKS = 0xffffffff;

/** Rate in bytes a second, burst in bytes. */
export interface Bucket {
  readonly rate: number;
  readonly burst: number;
}

/** The ticks a bucket of `burst` bytes fills in; one that would take longer than the kernel can count takes the longest. */
export function ticksOf({ rate, burst }: Bucket): number {
  const microseconds = Math.floor((burst * MICROSECONDS) / rate);
  return Math.min(Math.floor(microseconds * TICKS_PER_MICROSECOND), MAX_TICKS);
}

/** The smallest bucket in bytes that fills in these ticks: {@link ticksOf} of it are the ticks again. */
export function burstOf(rate: number, ticks: number): number {
  return Math.ceil((Math.ceil(ticks / TICKS_PER_MICROSECOND) * rate) / MICROSECONDS);
}
