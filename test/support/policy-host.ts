// What the tests of an agent with policies from a directory have in common.

export const DIRECTORY = '/run/policies';
export const FLAGS = ['--cni-only', `--policy-source=dir:${DIRECTORY}`];
/** Both ways in which pods are attached. */
export const MODES = {
  bridge: { isDefaultGateway: true },
  routed: { isDefaultGateway: true, mode: 'routed' },
} as const;

/** Of subnet.env, with subnets of these lengths. */
export const subnetFile = (lengths: { readonly 4: number; readonly 6: number } = { 4: 24, 6: 64 }): string =>
  `FLANNEL_NETWORK=10.5.0.0/16
FLANNEL_SUBNET=10.5.16.1/${lengths[4]}
FLANNEL_IPV6_NETWORK=fd00:5::/48
FLANNEL_IPV6_SUBNET=fd00:5:0:1::1/${lengths[6]}
FLANNEL_MTU=1450
FLANNEL_IPMASQ=false
`;
