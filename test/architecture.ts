// The rules of the architecture, as functions over the text of the sources. A rule gives one line for each violation.
// Imports that exist only as types are free: they are gone before the program runs.

import { stripTypeScriptTypes } from 'node:module';
import { matchesGlob, posix } from 'node:path';
import { type AnyNode, parse } from 'acorn';

/** Texts by path, relative to the root of the repository. */
export type Sources = Readonly<Record<string, string>>;

interface Import {
  /** A path from the root, or the name of a package or of a module of Node. */
  readonly target: string;
  readonly names: readonly string[];
}

interface Module {
  readonly path: string;
  readonly lines: number;
  readonly imports: readonly Import[];
  /** Names of values. */
  readonly exports: readonly string[];
  /** Global names the code uses, and properties of them: "fetch", "process.env", "Date.now", "new Date". */
  readonly globals: ReadonlySet<string>;
}

type Rule = (modules: readonly Module[]) => string[];

// ---- the rules as data ----------------------------------------------------------------------------------------------

const PRODUCT = ['model', 'kernel', 'ipam', 'cni-plugin', 'flanneld'] as const;

/** What each folder may import besides itself. */
const DIRECTIONS: Readonly<Record<(typeof PRODUCT)[number], readonly string[]>> = {
  model: [],
  kernel: ['model/**'],
  ipam: ['model/**', 'kernel/**'],
  'cni-plugin': ['model/**', 'kernel/**', 'ipam/**'],
  flanneld: [
    'model/**',
    'kernel/**',
    'ipam/**',
    'cni-plugin/{answer,attachments,config,execute,protocol,reclaim,source-guard,sources,spoof,verbs,wire}.ts',
    'package.json',
  ],
};

/** Files that compute and do nothing else. */
const PURE = [
  'model/**',
  'kernel/link-filter.ts',
  'ipam/{config,ranges,allocate,reservation,resolv-conf}.ts',
  'cni-plugin/{answer,bandwidth,config,foreign,form,masquerade,mode,names,plan,portmap,portmap-config,protocol,result,routed,routes,sources,spoof,subnet-file,table,versions,vlan}.ts',
  'flanneld/{arguments,checksum-offload,config,config-change,difference,docker-options,failure,flag-kinds,flags,host-settings,metrics,network-config,on-link,overlap,ownership,peer-plan,plan,relevance,subnet-env,usage}.ts',
  'flanneld/subnet/{assigned,choose,etcd-options,kube-node,lease-file,lease-record,peer-list,standing-events}.ts',
  'flanneld/kube/{failure,formats,items,kubeconfig,lines,messages,options,packed,protobuf}.ts',
  'flanneld/backend/{backend,command-words,extension,registry,reverse-path,vxlan,host-gw,udp,udp-control,alloc}.ts',
  'flanneld/probe/{notes,turns,window}.ts',
  'flanneld/rules/**',
  'flanneld/cni/{counters,queue}.ts',
  'flanneld/policy/{allowed,command,compile,denials,documents,dropped,judge,named,objects,parse-pod,parse-policy,placed,pod-index,policy-index,profile,select,spans,table,transaction,why,world}.ts',
  'flanneld/firewall/{accepts,condition,filter,findings,iptables-rule,nft-rule,traffic}.ts',
];

/** The names of Node's modules that compute and do nothing else. */
const PURE_NAMES: Readonly<Record<string, readonly string[]>> = { 'node:crypto': ['createHash', 'hash'] };

const IMPURE_GLOBALS =
  /^(process|console|fetch|performance|crypto|setTimeout|setInterval|setImmediate|Date\.now|new Date|Math\.random)$/;

/** Where a package may be imported; a package that is not here may be imported nowhere. */
const PACKAGES: Readonly<Record<string, readonly string[]>> = {
  'ip-address': ['model/ip.ts'],
  netlink: ['kernel/*.ts'],
  koffi: ['kernel/ffi.ts'],
  'raw-socket': ['kernel/probe.ts'],
  etcd3: ['flanneld/subnet/{etcd,etcd-*}.ts'],
  yaml: ['flanneld/policy/documents.ts', 'flanneld/kube/kubeconfig.ts'],
  pino: ['{flanneld,cni-plugin}/main.ts'],
  '@kubernetes/client-node': ['flanneld/kube/{credentials,kubeconfig}.ts'],
};

const ENTRY = ['{flanneld,cni-plugin}/main.ts'];
const SUBNET_SOURCES = 'flanneld/subnet/{config-file,etcd,etcd-*,file}.ts';
const KUBE_CLIENT = 'flanneld/kube/client.ts';
const LOCAL = ['flanneld/{health,status,status-socket}.ts', 'flanneld/cni/listen.ts'];

/** Where an effect may come from. Modules of Node that are not here only compute. */
const EFFECTS: Readonly<Record<string, readonly string[]>> = {
  'node:child_process': ['kernel/**'],
  'node:fs': [
    'kernel/**',
    'ipam/store.ts',
    SUBNET_SOURCES,
    'flanneld/{policy/directory,kube/credentials}.ts',
    ...ENTRY,
  ],
  'node:fs/promises': ['kernel/**', 'ipam/store.ts', SUBNET_SOURCES],
  'node:net': [SUBNET_SOURCES, ...LOCAL],
  'node:tls': [SUBNET_SOURCES],
  'node:http': [KUBE_CLIENT, ...LOCAL],
  'node:https': [KUBE_CLIENT],
  'node:http2': [],
  'node:dgram': ['kernel/**', 'flanneld/backend/udp-proxy.ts'],
  'node:dns': [],
  'node:cluster': [],
  'node:worker_threads': ['kernel/**'],
};

/** flanneld/config.ts is the one that turns flags and variables into values; it gets them as arguments. */
const PROCESS_GLOBALS = /^process\.(argv|env|exit|exitCode|stdin|stdout)$/;

const MOST_LINES = 400;

// ---- reading sources ------------------------------------------------------------------------------------------------

const matches = (path: string, patterns: readonly string[]): boolean =>
  patterns.some((pattern) => matchesGlob(path, pattern));
const folderOf = (path: string): string => path.split('/')[0] ?? '';
const isProduct = (path: string): path is `${(typeof PRODUCT)[number]}/${string}` =>
  (PRODUCT as readonly string[]).includes(folderOf(path));
const isNode = (value: unknown): value is AnyNode => value instanceof Object && 'type' in value;

/** "netlink" of "netlink/dist/structs.js", "@scope/name" of "@scope/name/x"; undefined for our own files and Node's. */
function packageOf(target: string): string | undefined {
  if (target.startsWith('node:') || target.endsWith('.ts') || target === 'package.json') return undefined;
  return target
    .split('/')
    .slice(0, target.startsWith('@') ? 2 : 1)
    .join('/');
}

/** The import that a syntax node makes, if any: static, dynamic, re-export or require. */
function importAt(node: AnyNode): { specifier: unknown; names: string[] } | undefined {
  const literal = (source: unknown): unknown =>
    isNode(source) && source.type === 'Literal' ? source.value : undefined;
  switch (node.type) {
    case 'ImportDeclaration': {
      const names = node.specifiers.map((each) =>
        each.type === 'ImportSpecifier' && each.imported.type === 'Identifier' ? each.imported.name : '*',
      );
      return { specifier: node.source.value, names };
    }
    case 'ExportNamedDeclaration':
    case 'ExportAllDeclaration':
      return node.source ? { specifier: node.source.value, names: ['*'] } : undefined;
    case 'ImportExpression':
      return { specifier: literal(node.source), names: ['*'] };
    case 'CallExpression':
      if (node.callee.type !== 'Identifier' || node.callee.name !== 'require') return undefined;
      return { specifier: literal(node.arguments[0]), names: ['*'] };
    default:
      return undefined;
  }
}

/** The names of values that a syntax node exports. */
function exportsAt(node: AnyNode): string[] {
  if (node.type !== 'ExportNamedDeclaration' || !node.declaration) return [];
  const declared = node.declaration.type === 'VariableDeclaration' ? node.declaration.declarations : [node.declaration];
  return declared.flatMap(({ id }) => (id?.type === 'Identifier' ? [id.name] : []));
}

/** The global thing that a syntax node uses, if any. A local variable of the same name counts too: don't name it so. */
function globalAt(node: AnyNode): string | undefined {
  if (node.type === 'Identifier') return node.name;
  if (node.type === 'NewExpression' && node.callee.type === 'Identifier' && node.arguments.length === 0) {
    return `new ${node.callee.name}`;
  }
  if (node.type !== 'MemberExpression' || node.object.type !== 'Identifier') return undefined;
  return node.property.type === 'Identifier' ? `${node.object.name}.${node.property.name}` : undefined;
}

/** Whether a child of a node is only a name for a member, not a use of a variable. */
const isMemberName = (parent: AnyNode, key: string): boolean =>
  ((parent.type === 'MemberExpression' && key === 'property') ||
    ((parent.type === 'Property' || parent.type === 'MethodDefinition' || parent.type === 'PropertyDefinition') &&
      key === 'key')) &&
  !parent.computed;

function readModule(path: string, text: string): Module {
  const imports: Import[] = [];
  const globals = new Set<string>();
  const exports: string[] = [];
  const visit = (node: AnyNode): void => {
    const found = importAt(node);
    if (found) {
      const specifier = typeof found.specifier === 'string' ? found.specifier : '(computed)';
      const target = specifier.startsWith('.') ? posix.join(posix.dirname(path), specifier) : specifier;
      imports.push({ target, names: found.names });
    }
    exports.push(...exportsAt(node));
    const used = globalAt(node);
    if (used) globals.add(used);
    for (const [key, value] of Object.entries(node)) {
      if (isMemberName(node, key)) continue;
      for (const child of Array.isArray(value) ? value : [value]) if (isNode(child)) visit(child);
    }
  };
  visit(parse(stripTypeScriptTypes(text), { ecmaVersion: 'latest', sourceType: 'module', allowHashBang: true }));
  return { path, lines: text.trimEnd().split('\n').length, imports, exports, globals };
}

// ---- the rules ------------------------------------------------------------------------------------------------------

/** Checks each import of each product file. */
const importRule =
  (judge: (path: string, target: Import) => string | undefined): Rule =>
  (modules) =>
    modules.flatMap(({ path, imports }) =>
      imports.flatMap((each) => {
        const complaint = judge(path, each);
        return complaint === undefined ? [] : [`${path} imports ${each.target}: ${complaint}`];
      }),
    );

const directions = importRule((path, { target }) => {
  const own = folderOf(path);
  if (target === '(computed)') return isProduct(path) ? 'name what is imported' : undefined;
  if (folderOf(target) === 'test' && own !== 'test' && own !== 'bench') return 'only measurements import the tests';
  if (!isProduct(path) || packageOf(target) !== undefined || target.startsWith('node:')) return undefined;
  const allowed = [`${own}/**`, ...DIRECTIONS[own as (typeof PRODUCT)[number]]];
  return matches(target, allowed) ? undefined : `${own} may import ${allowed.join(', ')}`;
});

const packages = importRule((path, { target }) => {
  const name = packageOf(target);
  if (name === 'tap' && folderOf(path) !== 'test') return 'only tests use it';
  if (name === undefined || !isProduct(path) || target === '(computed)') return undefined;
  const allowed = PACKAGES[name] ?? [];
  return matches(path, allowed) ? undefined : `allowed in ${allowed.join(', ') || 'no file'}`;
});

const effects = importRule((path, { target }) => {
  const allowed = EFFECTS[target];
  if (!isProduct(path) || allowed === undefined || matches(path, allowed)) return undefined;
  return `this effect is allowed in ${allowed.join(', ') || 'no file'}`;
});

const pureImports = importRule((path, { target, names }) => {
  if (!matches(path, PURE) || packageOf(target) !== undefined) return undefined;
  if (matches(target, PURE) || target === 'package.json') return undefined;
  const harmless = PURE_NAMES[target];
  if (harmless && names.every((name) => harmless.includes(name))) return undefined;
  return 'a pure file imports only pure files';
});

const pureGlobals: Rule = (modules) =>
  modules
    .filter(({ path }) => matches(path, PURE))
    .flatMap(({ path, globals }) =>
      [...globals].filter((name) => IMPURE_GLOBALS.test(name)).map((name) => `${path} uses ${name}: the file is pure`),
    );

const processGlobals: Rule = (modules) =>
  modules
    .filter(({ path }) => isProduct(path) && !matches(path, ENTRY))
    .flatMap(({ path, globals }) =>
      [...globals]
        .filter((name) => PROCESS_GLOBALS.test(name))
        .map((name) => `${path} uses ${name}: only main.ts files do; take it as an argument`),
    );

const noCycles: Rule = (modules) => {
  const byPath = new Map(modules.map((module) => [module.path, module]));
  const done = new Set<string>();
  const cycles: string[] = [];
  const follow = (path: string, trail: readonly string[]): void => {
    const start = trail.indexOf(path);
    if (start >= 0) cycles.push(`cycle: ${[...trail.slice(start), path].join(' -> ')}`);
    if (start >= 0 || done.has(path)) return;
    for (const { target } of byPath.get(path)?.imports ?? []) follow(target, [...trail, path]);
    done.add(path);
  };
  for (const { path } of modules) follow(path, []);
  return cycles;
};

/** A value that another file knows only as a type, by `typeof`, is one of its own file. */
const exported: Rule = (modules) => {
  const imported = new Set(
    modules.flatMap(({ imports }) => imports.flatMap(({ target, names }) => names.map((name) => `${target} ${name}`))),
  );
  return modules.flatMap(({ path, exports }) =>
    exports
      .filter((name) => !imported.has(`${path} ${name}`) && !imported.has(`${path} *`))
      .map((name) => `${path} exports ${name}: nobody imports it`),
  );
};

const size: Rule = (modules) =>
  modules
    .filter(({ path, lines }) => folderOf(path) !== 'test' && lines > MOST_LINES)
    .map(({ path, lines }) => `${path} has ${lines} lines: at most ${MOST_LINES}`);

export const RULES = {
  'import directions': directions,
  packages,
  'modules with effects': effects,
  'pure files import only pure files': pureImports,
  'pure files use no clock, no randomness and no process': pureGlobals,
  'only main.ts touches arguments, environment and exit': processGlobals,
  'no import cycles': noCycles,
  'what is exported is imported': exported,
  'file size': size,
} as const satisfies Record<string, Rule>;

/** Parsing takes longer than all rules together: sources are read once for all of them. */
const read = new WeakMap<Sources, readonly Module[]>();

/** What a rule has to say of sources, a line each. */
export function violations(rule: keyof typeof RULES, sources: Sources): string[] {
  const modules = read.get(sources) ?? Object.entries(sources).map(([path, text]) => readModule(path, text));
  read.set(sources, modules);
  return RULES[rule](modules);
}
