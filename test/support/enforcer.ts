// The policies of whole clusters put in force in the namespace that the test runs in, without an agent.

import type { Test } from 'tap';
import { systemClock } from '../../flanneld/clock.ts';
import { createApplier } from '../../flanneld/policy/apply.ts';
import { createCompiler } from '../../flanneld/policy/compile.ts';
import { EMPTY_WORLD } from '../../flanneld/policy/world.ts';
import { openKernel } from '../../kernel/open.ts';
import { worldHere } from '../flanneld/policy/compiled.ts';
import type { Cluster } from '../flanneld/policy/oracle.ts';

const nothing = () => undefined;
/** A log that is not judged. */
const NO_LOG = { debug: nothing, info: nothing, warn: nothing, error: nothing };

/** Puts a cluster's policies in force, in place of those before; resolves when they are. */
export type Enforce = (cluster: Cluster) => Promise<void>;

/** Ends with the test; the table stays. */
export function enforcing(t: Test): Enforce {
  const kernel = openKernel();
  const stop = new AbortController();
  const applier = createApplier({ kernel, clock: systemClock, log: NO_LOG, established: 'cut', signal: stop.signal });
  const unwatch = kernel.watch(applier.onChange);
  t.teardown(() => {
    stop.abort();
    unwatch();
    kernel.close();
  });
  const compile = createCompiler('closed');
  let world = EMPTY_WORLD;
  return async (cluster) => {
    world = worldHere(cluster, world);
    await applier.want(compile(world));
  };
}
