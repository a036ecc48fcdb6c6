// Node's HTTP, as its servers and clients here get it. Imported, the module would load all that it can give, a client with
// a WebAssembly parser too: 4 MB and 20 ms that an agent never uses.

export const { createServer, request } = process.getBuiltinModule('node:http');
