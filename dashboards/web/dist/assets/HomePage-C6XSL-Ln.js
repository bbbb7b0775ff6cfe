import{d as e,c as o,o as t}from"./start-BKY5jn9L.js";const s=e({__name:"HomePage",setup(a){return(n,c)=>(t(),o("div"))}});export{s as default};
