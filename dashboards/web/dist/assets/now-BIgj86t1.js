import{r as o,A as t}from"./runtime-core.esm-bundler-BV15A_AM.js";const e=o(Date.now());setInterval(()=>e.value=Date.now(),1e3);const n=t(e);export{n};
