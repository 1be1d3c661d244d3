import { runVerb } from '../run-verb.ts';

export const serverRun = runVerb('server', 'Run the server until it is told to stop', async () => {
  const { loadServerConfig, runServer } = await import('../../server/main.ts');
  return { load: loadServerConfig, run: runServer };
});
