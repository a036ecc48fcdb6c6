// A machine in memory for tests of the verbs, with directories of its own on disk.

import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Test } from 'tap';
import { removeOwn } from '../../cni-plugin/attach.ts';
import type { PluginName } from '../../cni-plugin/attachments.ts';
import type { Command } from '../../cni-plugin/protocol.ts';
import { type Dependencies, perform } from '../../cni-plugin/verbs.ts';
import { createFakeKernel, type FakeKernel } from '../../kernel/fake.ts';
import { printTransaction, type Transaction } from '../../model/ruleset.ts';
import type { Namespace } from '../../model/state.ts';
import { printStep, type Step } from '../../model/steps.ts';
import { type RequestOptions, requestWith } from './requests.ts';
import { temporaryDirectory } from '../support/temporary.ts';

export const SUBNET_FILE = `FLANNEL_NETWORK=10.5.0.0/16
FLANNEL_SUBNET=10.5.1.1/24
FLANNEL_IPV6_NETWORK=fd00:5::/48
FLANNEL_IPV6_SUBNET=fd00:5:0:1::1/64
FLANNEL_MTU=1450
FLANNEL_IPMASQ=false
`;

export interface Overrides extends RequestOptions {
  readonly plugin?: PluginName;
  readonly config?: object;
}

/** Without other plugins. */
export const dependenciesOn = (kernel: FakeKernel): Dependencies => ({
  kernel,
  bootId: 'boot1',
  now: () => 0,
  lockTimeoutMs: 50,
  execute: () => Promise.reject(new Error('no plugin is executed')),
  removeLink: async (link) => removeOwn(kernel, link),
});

/** A machine with two pods' namespaces and directories of its own. */
export function machine(t: Test) {
  const directory = temporaryDirectory(t);
  const kernel = createFakeKernel();
  for (const name of ['pod1', 'pod2', 'pod3']) kernel.addNamespace(`/run/netns/${name}`);
  const subnetFile = join(directory, 'subnet.env');
  writeFileSync(subnetFile, SUBNET_FILE);
  const places = { dataDir: join(directory, 'flannel'), ipam: { dataDir: join(directory, 'networks') } };
  const base = { ...places, subnetFile, delegate: { isDefaultGateway: true, hairpinMode: true } };
  const dependencies = dependenciesOn(kernel);

  async function run(command: Command, options: Overrides = {}) {
    const containerId = options.containerId ?? 'pod1';
    const netns = options.netns ?? `/run/netns/${containerId}`;
    const request = requestWith({ ...base, ...options.config }, { ...options, command, containerId, netns });
    const { output, status } = await perform(options.plugin ?? 'flannel', request, dependencies);
    return { status, ...(output === '' ? {} : JSON.parse(output)) };
  }
  const dump = () =>
    ['/run/netns/pod1', '/run/netns/pod2'].map((path) => dumpOf(path)).join('') + kernel.dump(kernel.host);
  const dumpOf = (path: string) => {
    const pod = kernel.openNamespace(path);
    try {
      return kernel.dump(pod);
    } finally {
      pod.close();
    }
  };
  /** Files, without those that say what was reserved last and the directories that stay. */
  const files = () =>
    readdirSync(directory, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile() && !/^last_reserved_ip/.test(entry.name) && entry.name !== 'subnet.env')
      .map((entry) => entry.name)
      .sort();
  return { directory, kernel, places, base, dependencies, run, dump, dumpOf, files, subnetFile };
}

export type Machine = ReturnType<typeof machine>;

/** The loopback device is brought up for the pod's own traffic, and stays as a runtime's own plugin has it. */
export const withoutLoopback = (dump: string): string =>
  dump
    .split('\n')
    .filter((line) => !/ lo | lo$|\.lo\./.test(line))
    .join('\n');

/** The bridge and forwarding stay: they are every attachment's. */
export const withoutBridge = (dump: string): string =>
  withoutLoopback(dump)
    .split('\n')
    .filter((line) => !/[ .]cni0[ .]?|forward/.test(line))
    .join('\n');

/** The printed steps and transactions of an ADD into a machine without a bridge. */
export async function stepsOf({ run, kernel, dependencies }: Machine, options: Overrides = {}): Promise<string[]> {
  const texts: string[] = [];
  const watched = {
    ...kernel,
    apply: (namespace: Namespace, steps: readonly Step[]) => {
      texts.push(...steps.map(printStep));
      return kernel.apply(namespace, steps);
    },
    commit: (transaction: Transaction) => {
      texts.push(printTransaction(transaction).split('\n')[0] as string);
      kernel.commit(transaction);
    },
  };
  Object.assign(dependencies, { kernel: watched });
  await run('ADD', options);
  return texts;
}
