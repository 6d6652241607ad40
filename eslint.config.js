import js from "@eslint/js";
import globals from "globals";

export default [
  js.configs.recommended,
  {
    rules: {
      eqeqeq: "error",
      "no-var": "error",
      "prefer-const": "error",
      "no-eval": "error",
      "no-implied-eval": "error",
      "no-new-func": "error",
      "no-restricted-properties": [
        "error",
        { property: "innerHTML", message: "User text enters by textContent; a drawing by safeSvg." },
        { property: "outerHTML", message: "User text enters by textContent; a drawing by safeSvg." },
        { property: "insertAdjacentHTML", message: "User text enters by textContent." },
      ],
    },
  },
  { files: ["taskqueue_nb/static/**"], languageOptions: { globals: globals.browser } },
  {
    files: ["tests/js/**"],
    languageOptions: { globals: { ...globals.node } },
    rules: { "no-restricted-properties": "off" }, // a test builds its page from text
  },
];
