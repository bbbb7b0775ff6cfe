import{d as e,c as o,o as t}from"./runtime-core.esm-bundler-2jriADlk.js";const s=e({__name:"HomePage",setup(a){return(n,c)=>(t(),o("div"))}});export{s as default};
