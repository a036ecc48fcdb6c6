// 2d: the configuration of address management, as what is given or refused.

import assert from 'node:assert/strict';
import type { CaseId } from '../catalogue.ts';
import type { Attachment, Json } from '../stage.ts';
import { type Defect, OWN_CODES, REFERENCE, type Row } from '../table.ts';
import { allocated, ipamConfig, refusedAdd } from './addresses.ts';

const BOUNDS = { rangeStart: '10.1.2.9', rangeEnd: '10.1.2.20', gateway: '10.1.2.30' };
const RANGE = { subnet: '10.1.2.0/24', ...BOUNDS };

interface Given {
  readonly id: string;
  readonly covers: readonly CaseId[];
  readonly ipam: Json;
  readonly keys?: Json;
  readonly attachment?: Attachment;
  /** The addresses with lengths. */
  readonly gives: readonly string[];
}

const RIGHT: readonly Given[] = [
  { id: 'the flat form', covers: ['ipam-config/old', 'range/all-fields'], ipam: RANGE, gives: ['10.1.2.9/24'] },
  {
    id: 'the form with ranges',
    covers: ['ipam-config/new'],
    ipam: { ranges: [[RANGE, { subnet: '10.1.4.0/24' }], [{ subnet: '11.1.2.0/24', rangeStart: '11.1.2.9' }]] },
    gives: ['10.1.2.9/24', '11.1.2.9/24'],
  },
  {
    id: 'both forms, and ranges of the runtime first',
    covers: ['ipam-config/mixed'],
    ipam: { ...RANGE, ranges: [[{ subnet: '11.1.2.0/24', rangeStart: '11.1.2.9' }]] },
    keys: { runtimeConfig: { irrelevant: 'a', ipRanges: [[{ subnet: '12.1.3.0/24' }]] } },
    gives: ['12.1.3.2/24', '10.1.2.9/24', '11.1.2.9/24'],
  },
  {
    id: 'CNI_ARGS IP',
    covers: ['ipam-config/cni-args'],
    ipam: { ranges: [[RANGE]] },
    attachment: { args: 'IP=10.1.2.10' },
    gives: ['10.1.2.10/24'],
  },
  {
    id: 'CNI_ARGS IP with a length, among unknown keys',
    covers: ['ipam-config/cni-args-prefix', 'types/args-ignore-unknown'],
    ipam: { ranges: [[RANGE]] },
    attachment: { args: 'IgnoreUnknown=1;K8S_POD_NAME=p;IP=10.1.2.11/24' },
    gives: ['10.1.2.11/24'],
  },
  {
    id: 'runtimeConfig.ips',
    covers: ['ipam-config/ips-capability'],
    ipam: { ranges: [[{ subnet: '192.168.0.0/24' }], [{ subnet: '2001:db8::/64' }]] },
    keys: { runtimeConfig: { ips: ['192.168.0.5/24', '2001:db8::7'] } },
    gives: ['192.168.0.5/24', '2001:db8::7/64'],
  },
  { id: 'defaults of a /24', covers: ['range/default-24'], ipam: { subnet: '192.0.2.0/24' }, gives: ['192.0.2.2/24'] },
  { id: 'defaults of a /25', covers: ['range/default-25'], ipam: { subnet: '192.0.2.0/25' }, gives: ['192.0.2.2/25'] },
  {
    id: 'defaults of an IPv6 subnet',
    covers: ['range/default-v6'],
    ipam: { subnet: '2001:db8:1::/64' },
    gives: ['2001:db8:1::2/64'],
  },
];

interface Wrong {
  readonly id: string;
  readonly covers: readonly CaseId[];
  readonly ranges: readonly (readonly Json[])[];
  readonly msg: RegExp;
}

const WRONG: readonly Wrong[] = [
  {
    id: 'sets that overlap',
    covers: ['ipam-config/overlap-between'],
    ranges: [
      [{ subnet: '10.1.2.0/24' }, { subnet: '10.2.2.0/24' }],
      [{ subnet: '10.1.4.0/24' }, { subnet: '10.1.2.0/24' }],
    ],
    msg: /range set 0 overlaps with 1/,
  },
  {
    id: 'ranges of a set that overlap',
    covers: ['ipam-config/overlap-within'],
    ranges: [[{ subnet: '10.1.0.0/22' }, { subnet: '10.1.2.0/24' }]],
    msg: /range set 0: .* 10\.1\.0\.1-10\.1\.3\.254 and 10\.1\.2\.1-10\.1\.2\.254 overlap/,
  },
  {
    id: 'both families in a set',
    covers: ['ipam-config/mixed-families'],
    ranges: [[{ subnet: '10.1.0.0/22' }, { subnet: '2001:db8:5::/64' }]],
    msg: /range set 0: mixed address families/,
  },
  {
    id: 'host bits in an IPv4 subnet',
    covers: ['range/host-bits'],
    ranges: [[{ subnet: '192.0.2.12/24' }]],
    msg: /has host bits set/,
  },
  {
    id: 'host bits in an IPv6 subnet',
    covers: ['range/host-bits'],
    ranges: [[{ subnet: '2001:db8:1::24:19:1/64' }]],
    msg: /has host bits set/,
  },
  {
    id: 'a subnet that is too small',
    covers: ['range/too-small'],
    ranges: [[{ subnet: '192.0.2.0/31' }]],
    msg: /192\.0\.2\.0\/31 too small to allocate from/,
  },
  {
    id: 'rangeStart outside the subnet',
    covers: ['range/bounds'],
    ranges: [[{ subnet: '192.0.2.0/24', rangeStart: '192.0.3.0' }]],
    msg: /start 192\.0\.3\.0 (is )?not in network 192\.0\.2\.0\/24/i,
  },
  {
    id: 'rangeEnd outside the subnet',
    covers: ['range/bounds'],
    ranges: [[{ subnet: '192.0.2.0/24', rangeEnd: '192.0.4.0' }]],
    msg: /end 192\.0\.4\.0 (is )?not in network 192\.0\.2\.0\/24/i,
  },
];

const rightRow = ({ id, covers, ipam, keys, attachment, gives }: Given): Row => ({
  id: `ipam: ${id}`,
  covers,
  async run(stage) {
    assert.deepEqual(await allocated(stage, ipamConfig(stage, ipam, keys), attachment), gives);
  },
});

const wrong: Row = {
  id: 'ipam: ranges that are refused',
  covers: [...new Set(WRONG.flatMap(({ covers }) => covers))],
  differs: OWN_CODES,
  async run(stage) {
    for (const { ranges, msg } of WRONG) await refusedAdd(stage, ipamConfig(stage, { ranges }), { ownCode: 7, msg });
  },
};

const ARGS_ANY: Defect = {
  releases: REFERENCE,
  what: 'CNI_ARGS and args.cni.ips are both taken, where the first must yield to the second',
  cites: 'cni.md 1a: "CNI_ARGS IP= is deprecated and must be ignored if the `args` equivalent is present"',
};

const bothArguments: Row = {
  id: 'ipam: CNI_ARGS yields to args.cni.ips',
  covers: ['ipam-config/args', 'ipam-config/cni-args'],
  defects: [ARGS_ANY],
  async run(stage) {
    const config = ipamConfig(stage, { ranges: [[RANGE]] }, { args: { cni: { ips: ['10.1.2.12'] } } });
    assert.deepEqual(await allocated(stage, config, { args: 'IP=10.1.2.13' }), ['10.1.2.12/24']);
  },
};

const cniArgs: Row = {
  id: 'ipam: CNI_ARGS that are refused, and what IgnoreUnknown may be',
  covers: ['types/args-unknown', 'types/args-boolean', 'types/args-ignore-unknown'],
  differs: OWN_CODES,
  async run(stage) {
    const config = ipamConfig(stage, { ranges: [[RANGE]] });
    const refusals: readonly (readonly [args: string, msg: RegExp])[] = [
      ['FOO=bar', /unknown args \[?"FOO/],
      ['IgnoreUnknown=0;FOO=bar', /unknown args \[?"FOO/],
      ['IgnoreUnknown=maybe;FOO=bar', /maybe/],
      ['IP', /invalid pair "IP"/],
      ['IP=a=b', /invalid pair "IP=a=b"/],
    ];
    for (const [args, msg] of refusals) await refusedAdd(stage, config, { ownCode: 4, msg }, { args });
    for (const truth of ['1', 'true', 'True']) {
      await allocated(stage, config, { args: `IgnoreUnknown=${truth};FOO=bar`, containerId: `c${truth}` });
    }
  },
};

export const IPAM_CONFIG_ROWS: readonly Row[] = [...RIGHT.map(rightRow), wrong, bothArguments, cniArgs];
