// A name that ends in `ts` is one file, any other a folder.
const place = (name) => (name.endsWith('ts') ? `${name}$` : `${name}/`);
const only = (name, from, allowed) => ({
  name,
  severity: 'error',
  from: { path: `^${from}/`, pathNot: '[.]test[.]ts$' },
  to: {
    path: '^(runtime|identity|sdk|server|agent|gateway|cli|proto)/',
    pathNot: `^(${[from, ...allowed].map(place).join('|')})`,
  },
});
const npmOnly = (pkg, where) => ({ name: `npm-${pkg}`, severity: 'error', from: { pathNot: `^(${where}|test/)` }, to: { path: `node_modules/${pkg}/` } });
module.exports = { forbidden: [
  { name: 'no-cycles', severity: 'error', from: {}, to: { circular: true } },
  { name: 'no-orphan', severity: 'warn', from: { orphan: true, pathNot: '[.]test[.]ts$' }, to: {} },
  only('runtime-is-a-leaf', 'runtime', []), only('identity', 'identity', ['runtime']), only('sdk', 'sdk', ['identity', 'runtime', 'proto/gen']),
  only('server', 'server', ['identity', 'runtime', 'proto/gen', 'sdk/x509-source[.]ts']), only('agent', 'agent', ['identity', 'runtime', 'proto/gen']),
  only('gateway', 'gateway', ['sdk', 'identity', 'runtime', 'proto/gen']), only('cli', 'cli', ['sdk', 'identity', 'runtime', 'proto/gen', 'server/main[.]ts', 'server/restore-server[.]ts', 'server/upgrade-server[.]ts', 'agent/main[.]ts', 'gateway/main[.]ts']), { name: 'only-run-starts-a-process', severity: 'error', from: { path: '^cli/', pathNot: '^cli/verbs/((server|agent|gateway)-run|server-(restore|upgrade))[.]ts$' }, to: { path: '^(server|agent|gateway)/' } },
  npmOnly('ssh2', 'gateway/plugins/backend/ssh'), npmOnly('pg-protocol', 'gateway/plugins/backend/postgres'), npmOnly('pino', 'runtime/log'), npmOnly('@grpc/grpc-js', 'runtime/grpc'), npmOnly('@peculiar/x509', 'identity/x509'), npmOnly('reflect-metadata', 'identity/x509'), npmOnly('koffi', 'runtime/peer-credentials'), npmOnly('libsql', 'server/plugins/datastore'), npmOnly('libpg-query', 'gateway/plugins/backend/postgres'),
  { name: 'shared-means-two', severity: 'warn', from: { path: '^(server|agent|gateway|cli|sdk)/' }, module: { path: '^(runtime|identity)/[^/]+[.]ts$', pathNot: '[.]test[.]ts$', numberOfDependentsLessThan: 2 } },
], options: { doNotFollow: { path: 'node_modules' }, tsPreCompilationDeps: true, tsConfig: { fileName: 'tsconfig.json' }, } };
