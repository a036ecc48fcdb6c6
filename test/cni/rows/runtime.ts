// The runtime of libcni.ts on a stage.

import { type Container, type NetworkList, type Runtime, runtimeOf } from '../libcni.ts';
import { type Json, NETWORK, podPath, type Stage } from '../stage.ts';

/** By the plugin's file, `type` is turned back into what the stage calls it. */
function roleOf({ target }: Stage, type: unknown): string {
  const found = Object.entries(target.programs).find(([, program]) => program === type);
  return found?.[0] ?? String(type);
}

/** A runtime for a list of these plugins, in the stage's version. */
export const runtimeOn = (stage: Stage, plugins: readonly Json[], keys: Partial<NetworkList> = {}): Runtime =>
  runtimeOf({ cniVersion: stage.version, name: NETWORK, plugins, ...keys }, (verb, config, attachment) =>
    stage.cni(roleOf(stage, config.type), verb, config, attachment),
  );

/** Makes a pod, and what the runtime says of it. */
export async function container(stage: Stage, name: string, keys: Partial<Container> = {}): Promise<Container> {
  await stage.pod(name);
  return { containerId: name, ifname: 'eth0', netns: podPath(name), ...keys };
}
