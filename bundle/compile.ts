// Has V8 compile the agent's script, every function of it, and keeps what comes out, for main.ts to start from. With
// --random-seed the same script gives the same bytes.
//
//   compile.ts FOLDER

import { readFileSync, writeFileSync } from 'node:fs';
import { setFlagsFromString } from 'node:v8';
import { Script } from 'node:vm';
import { compiledOf, scriptOf } from './files.ts';

const folder = process.argv[2] as string;
// Only while it is compiled: what is kept says which flags were in force, and is of use with the same ones only.
setFlagsFromString('--no-lazy');
const script = new Script(readFileSync(scriptOf(folder), 'latin1'), { filename: 'agent.js' });
setFlagsFromString('--lazy');
writeFileSync(compiledOf(folder), script.createCachedData());
