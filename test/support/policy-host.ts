// A host whose agents take policies from a directory.

import { renameSync, rmSync, writeFileSync } from 'node:fs';
import type { Test } from 'tap';
import type { CniOutput } from './cni.ts';
import { type CniHost, makeHost, type Outcome } from './cni-host.ts';

const DIRECTORY = '/run/policies';
/** Of an agent. */
export const FLAGS = ['--cni-only', `--policy-source=dir:${DIRECTORY}`];
/** Both ways in which pods are attached. */
export const MODES = {
  bridge: { isDefaultGateway: true },
  routed: { isDefaultGateway: true, mode: 'routed' },
} as const;

export interface PolicyHost extends CniHost {
  /** Replaces a manifest, or takes it away. */
  manifest(name: string, text: string | undefined): void;
  /** On a pod that Kubernetes calls x/NAME. */
  verb(command: string, id: string, delegate: object, name?: string): Promise<Outcome>;
}

export interface PolicyHostOptions {
  /** Of the pods' subnets. */
  readonly lengths?: { readonly 4: number; readonly 6: number };
  /** Seconds that clients wait for an agent; undefined when none is expected. */
  readonly expected?: number;
}

/** `bin`: of compilePrograms. Bridges hand over nothing of what they pass, unless the agent makes its own do so. */
export async function makePolicyHost(t: Test, bin: string, options: PolicyHostOptions = {}): Promise<PolicyHost> {
  const { lengths = { 4: 24, 6: 64 }, expected } = options;
  const host = await makeHost(t, bin, expected);
  const { machine, path } = host;
  writeFileSync(path('/run/flannel/subnet.env'), subnetFile(lengths));
  await machine.must('mkdir', [DIRECTORY]);
  // Without a bridge the node has no other address.
  await machine.must('ip', ['address', 'add', '192.0.2.1/32', 'dev', 'lo']);
  const sysctls = ['net.bridge.bridge-nf-call-iptables=0', 'net.bridge.bridge-nf-call-ip6tables=0'];
  await machine.run('sysctl', ['-qw', ...sysctls]);
  return {
    ...host,
    manifest(name, text) {
      const file = path(`${DIRECTORY}/${name}.yaml`);
      if (text === undefined) return rmSync(file);
      writeFileSync(`${file}.new`, text);
      renameSync(`${file}.new`, file);
    },
    verb: (command, id, delegate, name = id) =>
      host.one(command, id, {
        config: { delegate },
        environment: { CNI_ARGS: `IgnoreUnknown=1;K8S_POD_NAMESPACE=x;K8S_POD_NAME=${name}` },
      }),
  };
}

const subnetFile = (lengths: { readonly 4: number; readonly 6: number }): string =>
  `FLANNEL_NETWORK=10.5.0.0/16
FLANNEL_SUBNET=10.5.16.1/${lengths[4]}
FLANNEL_IPV6_NETWORK=fd00:5::/48
FLANNEL_IPV6_SUBNET=fd00:5:0:1::1/${lengths[6]}
FLANNEL_MTU=1450
FLANNEL_IPMASQ=false
`;

/** The pod's end, as ADD tells of it: its MAC, and its addresses without lengths. */
export const endOf = ({ interfaces = [], ips = [] }: CniOutput) => ({
  mac: interfaces.find(({ sandbox }) => sandbox !== undefined)?.mac ?? '',
  addresses: ips.map(({ address }) => address.split('/')[0] as string),
});
