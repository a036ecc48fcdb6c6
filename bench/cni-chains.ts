// What is put side by side: the same attachment, by our plugin and by a chain of the reference plugins.

/** answer4, answer6: until the pod answers the first packet, too. */
export type Feature = 'bridge' | 'masquerade' | 'full' | 'answer4' | 'answer6';

/** A plugin of a chain: its executable's name and configuration. */
export interface Link {
  readonly type: string;
  readonly config: Readonly<Record<string, unknown>>;
}

const RATE = 100_000_000;
const BANDWIDTH = { ingressRate: RATE, ingressBurst: RATE, egressRate: RATE, egressBurst: RATE };
const portMappings = (pod: number) => [{ hostPort: 20_000 + pod, containerPort: 8080, protocol: 'tcp' }];

const bridgeConfig = (feature: Feature) => ({
  bridge: 'cni0',
  isGateway: true,
  isDefaultGateway: true,
  hairpinMode: true,
  ipMasq: feature === 'masquerade' || feature === 'full',
  ipam: { type: 'host-local', ranges: [[{ subnet: feature === 'answer6' ? 'fd00:88::/64' : '10.88.0.0/16' }]] },
});

export const FEATURES: readonly { readonly name: Feature; readonly title: string; readonly answer?: true }[] = [
  { name: 'bridge', title: 'bridge + IPAM' },
  { name: 'masquerade', title: '+ ipMasq' },
  { name: 'full', title: '+ host port and bandwidth' },
  { name: 'answer4', title: 'until the first IPv4 packet is answered', answer: true },
  { name: 'answer6', title: 'until the first IPv6 packet is answered', answer: true },
];

/** Ours does it all in one execution. */
export function ourChain(feature: Feature, pod: number): Link[] {
  const runtimeConfig = { portMappings: portMappings(pod), bandwidth: BANDWIDTH };
  const extra = feature === 'full' ? { capabilities: { portMappings: true, bandwidth: true }, runtimeConfig } : {};
  return [{ type: 'flannel', config: { ...bridgeConfig(feature), ...extra } }];
}

/** The reference plugins, one after the other. */
export function referenceChain(feature: Feature, pod: number): Link[] {
  const bridge = { type: 'bridge', config: bridgeConfig(feature) };
  if (feature !== 'full') return [bridge];
  return [
    bridge,
    {
      type: 'portmap',
      config: { capabilities: { portMappings: true }, runtimeConfig: { portMappings: portMappings(pod) } },
    },
    { type: 'bandwidth', config: BANDWIDTH },
  ];
}
