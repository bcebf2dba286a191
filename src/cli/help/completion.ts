/**
 * `dsm completion`: scripts for shells, and the candidates that complete a command line. The scripts ask this program
 * at every use, so they always match its commands.
 */

import { command } from "../command.ts";
import { MANY, wrongValue } from "../settings/options.ts";
import { print } from "../terminal/messages.ts";
import { complete } from "./candidates.ts";
import { completionScript, SHELLS } from "./shell-scripts.ts";

export default command({
  meta: { name: "completion", description: "Print the script that completes dsm's commands in a shell" },
  args: {
    shell: { type: "positional", required: true, description: `One of ${SHELLS.join(", ")}`, valueHint: "SHELL" },
    words: {
      type: "positional",
      required: false,
      description: "After --: the words after dsm so far; prints candidates for the last one",
      valueHint: `WORD${MANY}`,
    },
  },
  manual: {
    details: [
      'dsm install puts the scripts where the shells look for them. With words after "--" it prints what the scripts ask for: "files", "folders", "program" or "none" for what else the shell itself should offer, then a line for each candidate, with its description after a tab.',
    ],
    examples: [
      { does: "In bash, from now on: put this line into ~/.bashrc", line: "source <(dsm completion bash)" },
      { does: "In zsh: put this line into ~/.zshrc, after compinit", line: "source <(dsm completion zsh)" },
      { does: "In fish", line: "dsm completion fish > ~/.config/fish/completions/dsm.fish" },
      { does: "The orders a session can have", line: "dsm completion bash -- run --order ''" },
    ],
  },
  async run({ args, rawArgs }) {
    const shell = SHELLS.find((name) => name === args.shell);
    if (shell === undefined) {
      throw wrongValue(`there is no completion for shell "${args.shell}"; choose ${SHELLS.join(", ")}`);
    }
    const terminator = rawArgs.indexOf("--");
    if (terminator < 0) {
      if (args._.length > 1) throw wrongValue('give the words to complete after "--"');
      await print(completionScript(shell));
      return 0;
    }
    const { rest, candidates } = await complete(shell, rawArgs.slice(terminator + 1));
    await print([rest, ...candidates.map(([word, description]) => `${word}\t${description}`)].join("\n"));
    return 0;
  },
});
