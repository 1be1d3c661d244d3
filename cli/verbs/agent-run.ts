import { runVerb } from '../run-verb.ts';

export const agentRun = runVerb('agent', 'Run the agent until it is told to stop', async () => {
  const { loadAgentConfig, runAgent } = await import('../../agent/main.ts');
  return { load: loadAgentConfig, run: runAgent };
});
