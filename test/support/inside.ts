// A test file that runs itself again in a network namespace of its own, where its tables, flows and devices are alone.

import type { Test } from 'tap';
import { makeNamespace } from './namespace.ts';

const VARIABLE = 'FLANNEL_TEST_IN_NAMESPACE';

/** The word that this process was started with by {@link runInside}; undefined for one that the runner has started. */
export const inside: string | undefined = process.env[VARIABLE];

/** Runs a file (`import.meta.filename`) in a new namespace; its tests count as ours. */
export async function runInside(t: Test, file: string, word: string): Promise<void> {
  const namespace = makeNamespace(t, word);
  const again = [`--net=${namespace.path}`, process.execPath, file];
  await t.spawn('nsenter', again, { env: { ...process.env, [VARIABLE]: word } }, `in a namespace, ${word}`);
}
