// The table of flags as text: --help and the reference docs/flags.md.

import { type Command, type Flag, heeders } from './flag-kinds.ts';
import { FLAGS, type FlagName, variableOf } from './flags.ts';

const SUMMARY: Readonly<Record<Command, readonly string[]>> = {
  run: [
    'Usage: flanneld [flag]...             the agent: a subnet for this node, and the way to those of the others',
    '       flanneld --cni-only [flag]...  only serves the CNI plugin of this host',
    '       flanneld status [--json]       what should be, what is, what differs; exit code 1 when something does',
    '       flanneld cleanup [--dry-run]   take away what the agent made on this machine',
    '       flanneld policy why|trace      which network policy drops what; --help for its own flags',
    '       flanneld install-cni           put the CNI executables into a directory of this host; uninstall-cni: take away',
    '       flanneld docker-opts [-h]      options for a Docker daemon, as by mk-docker-opts.sh of flannel',
  ],
  status: [
    'Usage: flanneld status [--json] [flag]...',
    'What should be, what is, what differs. Exit codes: 0 ready and nothing differs, 1 otherwise, 2 no agent answers.',
  ],
  cleanup: [
    'Usage: flanneld cleanup [--dry-run] [flag]...',
    'Take away what the agent made on this machine: devices, routes, rules, files in /run, and what the CNI plugin left,',
    'unless pods are attached. Bridges stay, and so do identity (--node-id-file) and lease: a new agent has them again.',
  ],
  'install-cni': [
    'Usage: flanneld install-cni [flag]...',
    'Put the CNI executables into --cni-bin-dir, and the mark that an agent is expected into --cni-conf-dir.',
  ],
  'uninstall-cni': [
    'Usage: flanneld uninstall-cni [flag]...',
    'Take away what install-cni has put, and the list that equals --cni-list; what was changed since then stays.',
  ],
};

/** The text of --help for a command. */
export function usage(command: Command): string {
  const flags = flagRows().filter(({ flag }) => heeders(flag).includes(command));
  return [
    ...SUMMARY[command],
    '',
    'Flags take one dash or two; --flag value or --flag=value. Each can be given as FLANNELD_<FLAG> in the environment',
    '(FLANNELD_SUBNET_FILE=/run/flannel/a.env); the command line wins.',
    ...(command === 'run' ? [] : ['The other flags of flanneld are taken too, and change nothing here.']),
    '',
    ...flags.flatMap(({ name, flag }) => [`  ${written(name, flag)}`, ...wrapped(`${flag.help}${defaultOf(flag)}`)]),
    '',
  ].join('\n');
}

/** Lines of at most 100 columns, indented; a word that is longer has one of its own. */
function wrapped(text: string): string[] {
  const lines: string[] = [];
  for (const word of text.split(' ')) {
    const last = lines.at(-1);
    if (last !== undefined && last.length + 1 + word.length <= 100) lines.splice(-1, 1, `${last} ${word}`);
    else lines.push(`      ${word}`);
  }
  return lines;
}

/** docs/flags.md: a row for each flag. */
export function flagReference(): string {
  const rows = flagRows().map(({ name, flag }) => {
    const by = heeders(flag);
    const scope = [flag.ours ? 'not in flannel' : '', by.includes('run') ? '' : `only ${by.join(', ')}`]
      .filter(Boolean)
      .join(', ');
    const cells = [
      `\`${written(name, flag)}\``,
      [variableOf(name, flag), flag.shared].filter(Boolean).join(', '),
      printed(flag),
      `${flag.help}${scope && ` (${scope})`}`,
    ];
    return `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
  });
  return [
    '# Flags of flanneld',
    '',
    'Made from `flanneld/flags.ts`; `test/flanneld/flags.test.ts` holds the two together.',
    '',
    '| flag | environment | default | meaning |',
    '|---|---|---|---|',
    ...rows,
    '',
  ].join('\n');
}

interface Row {
  readonly name: FlagName;
  readonly flag: Flag<unknown>;
}

const flagRows = (): Row[] =>
  (Object.entries(FLAGS) as [FlagName, Flag<unknown>][]).map(([name, flag]) => ({ name, flag }));

function written(name: string, flag: Flag<unknown>): string {
  const dashed = name.length === 1 ? `-${name}` : `--${name}`;
  return `${dashed}${flag.placeholder && ` ${flag.placeholder}`}${flag.kind === 'list' ? ' (may be repeated)' : ''}`;
}

const printed = (flag: Flag<unknown>): string =>
  Array.isArray(flag.initial) ? flag.initial.join(',') : String(flag.initial);

const defaultOf = (flag: Flag<unknown>): string =>
  flag.kind === 'value' && printed(flag) !== ''
    ? ` (default ${printed(flag)})`
    : flag.initial === true
      ? ' (default true)'
      : '';
